"""Record of an explained slide: what was explained of it, by which model, and what came out."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.evaluate.mask_agreement import Agreement
from gigassl.files import written_whole

RECORD = "explanation.json"

_MEANINGS = {"attention": "attention", "grad-cam": "Grad-CAM heat"}


@dataclass(frozen=True, kw_only=True)
class ExplainedSlide:
    """One explained slide.

    Attributes:
        digest: of all that the explanation was made from.
        model, method: that explained it.
        learned_from: whether the model learned from the slide or its patient.
        explained: the class, or "value" or "risk".
        asked: why that one: "predicted", "true" or "named"; "" where there is but one.
        y_true: the true class where it is known, else "".
        answer: what the model says: of each class its probability, or the value or risk.
        meaning, how, output, offset, completeness_error: as of ``Explanation``.
        n_tiles, n_unseen: tiles, and those without a score.
        agreement, chance: with the mask, of the scores and of the same scores shuffled.
        in_tiles: share of the mask's area that lies in scored tiles.
        mask_note: why there is no agreement though a mask was asked for.
        width_l0, height_l0: size of the slide in level-0 px; 0 in records of earlier versions.
        mpp_l0: level-0 resolution, µm/px; None where not known.
    """

    digest: str
    slide_id: str
    patient_id: str
    model: str
    method: str
    learned_from: bool
    explained: str
    asked: str
    y_true: str
    answer: Mapping[str, float]
    meaning: str
    how: str
    output: float
    offset: float
    completeness_error: float | None
    n_tiles: int
    n_unseen: int
    agreement: Agreement | None = None
    chance: Agreement | None = None
    in_tiles: float | None = None
    mask_note: str = ""
    width_l0: int = 0
    height_l0: int = 0
    mpp_l0: float | None = None


def save_record(record: ExplainedSlide, folder: Path) -> None:
    """Writes a slide's record: the last of its files, which says that the others are there.

    Raises:
        MachineError: it cannot be written.
    """
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False, allow_nan=False)
    with written_whole(folder / RECORD) as part:
        part.write_text(f"{text}\n", encoding="utf-8")


def read_record(folder: Path) -> ExplainedSlide | None:
    """The record of a finished slide; None where there is none of this version."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        agreements = {
            name: values[name] and Agreement(**values[name]) for name in ("agreement", "chance")
        }
        return ExplainedSlide(**{**values, **agreements})
    except (json.JSONDecodeError, TypeError, KeyError):
        return None


def read_records(folder: Path) -> dict[str, ExplainedSlide]:
    """The records of an earlier run, by slide.

    Raises:
        SettingsError: there are none.
    """
    found = (read_record(path.parent) for path in sorted(folder.glob(f"*/{RECORD}")))
    records = {record.slide_id: record for record in found if record is not None}
    if not records:
        raise SettingsError(f"{folder} holds no explained slides of `gigassl explain`")
    return records


def scale_of(record: ExplainedSlide) -> str:
    """What a score is, in words."""
    what = f"'{record.explained}'" if record.asked else f"the {record.explained}"
    if record.meaning == "contribution":
        return f"contribution to the logit of {what}" if record.asked else f"contribution to {what}"
    return (
        _MEANINGS[record.meaning]
        if record.meaning == "attention"
        else (f"{_MEANINGS[record.meaning]} for {what}")
    )
