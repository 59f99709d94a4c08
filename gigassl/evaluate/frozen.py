"""Frozen probe: a fitted probe with all that it needs for another cohort, as one file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from gigassl.errors import SettingsError
from gigassl.evaluate.calibration import Calibration
from gigassl.evaluate.fitted_probe import FittedProbe
from gigassl.evaluate.task import Kind
from gigassl.tiles.weights import Checkpoint, load_checkpoint, reading_card, save_checkpoint
from gigassl.vectors.merge import differing_settings
from gigassl.vectors.table import SlideTable

KIND, VERSION = "probe", 1
_ARRAYS = ("centre", "factors", "coefficients", "intercepts", "votes")


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenProbe:
    """A probe that learned from all labelled slides of a cohort.

    Attributes:
        probe: what it learned.
        task: name of what it predicts.
        kind: of the task.
        target: the label's column; "" where it was no single one.
        classes: names in order; empty unless classification.
        calibration: of the classes' probabilities; None: as the probe says.
        threshold: of the second of two classes' calibrated probability, or of the risk; None: the
            likeliest class.
        rule: how the threshold was chosen.
        vectors: of training: "name", "digest", "dim", and "settings" that made them.
        slides, patients: it learned from.
        made: settings, versions and out-of-fold scores, JSON-ready.
    """

    probe: FittedProbe
    task: str
    kind: Kind
    target: str
    classes: tuple[str, ...]
    calibration: Calibration | None
    threshold: float | None
    rule: str
    vectors: Mapping[str, Any]
    slides: frozenset[str]
    patients: frozenset[str]
    made: Mapping[str, Any]

    def calibrated(
        self, output: Float64[np.ndarray, "slide output"]
    ) -> Float64[np.ndarray, "slide output"]:
        """What the probe says, as it should be read."""
        return output if self.calibration is None else self.calibration.apply(output)

    def decisions(self, output: Float64[np.ndarray, "slide output"]) -> list[str]:
        """The class of each slide, "high" or "low" risk, or nothing for a value."""
        if self.kind == "regression":
            return [""] * len(output)
        if self.threshold is None:
            return [self.classes[k] for k in output.argmax(axis=1)]
        over = output[:, -1] >= self.threshold
        names = ("low", "high") if self.kind == "survival" else self.classes
        return [names[int(each)] for each in over]

    def refuse_other(self, table: SlideTable, *, allowed: bool) -> tuple[str, ...]:
        """Refuses vectors that were made otherwise than those of training; else what to mind.

        Raises:
            SettingsError: another width; or other settings, unless they are allowed.
        """
        ours, theirs = self.vectors, table.settings_digest
        if table.dim != ours["dim"]:
            raise SettingsError(
                f"the probe learned from vectors of {ours['dim']} numbers; these have {table.dim}"
            )
        if theirs == ours["digest"]:
            unnamed = "imported" in ours["settings"] and not ours["settings"]["imported"]["encoder"]
            said = "neither table says which encoder made its vectors: be sure that it is the same"
            return (said,) if unnamed else ()
        differing = differing_settings(
            {"settings": ours["settings"]}, {"settings": table.provenance.get("settings", {})}
        )
        named = ", ".join(f"{n} ({one} and {other})" for n, (one, other) in differing.items())
        said = (
            f"the probe learned from vectors of settings digest {ours['digest']}, these have "
            f"{theirs}; they differ in: {named or 'what is not recorded'}"
        )
        if not allowed:
            raise SettingsError(
                f"{said}. Make the vectors with the same settings, or say --allow-other-vectors "
                "if the difference does not matter"
            )
        return (said,)


def save_frozen(probe: FrozenProbe, path: Path) -> None:
    """Writes ``.safetensors``, whole or not at all; everything but the arrays is its model card.

    Raises:
        MachineError: disk full, read-only or missing folder.
    """
    fitted, calibration = probe.probe, probe.calibration
    card = {
        "kind": KIND,
        "version": VERSION,
        "probe": {
            "method": fitted.method,
            "unit_norm": fitted.unit_norm,
            "neighbours": fitted.neighbours,
            "chosen": dict(fitted.chosen),
        },
        "task": {
            "name": probe.task, "kind": probe.kind, "target": probe.target,
            "classes": list(probe.classes),
        },
        "calibration": None
        if calibration is None
        else {"slope": calibration.slope, "offsets": calibration.offsets.tolist()},
        "threshold": {"value": probe.threshold, "rule": probe.rule},
        "vectors": dict(probe.vectors),
        "training": {"slides": sorted(probe.slides), "patients": sorted(probe.patients)},
        "made": dict(probe.made),
    }  # fmt: skip
    tensors = {name: torch.from_numpy(np.asarray(getattr(fitted, name))) for name in _ARRAYS}
    save_checkpoint(path, tensors, card=card)


def load_frozen(path: Path) -> FrozenProbe:
    """Reads what ``save_frozen`` wrote.

    Raises:
        SettingsError: no such file, no probe, or of a newer version.
    """
    if path.is_file() and path.suffix != ".safetensors":
        raise SettingsError(f"{path} is no frozen probe; those are .safetensors files")
    checkpoint = load_checkpoint(path)
    checkpoint.expect(
        KIND, VERSION, path=path, otherwise="is no frozen probe; make one with `gigassl fit`"
    )
    with reading_card(path):
        return _probe_of(checkpoint)


def _probe_of(checkpoint: Checkpoint) -> FrozenProbe:
    card = checkpoint.card
    arrays: dict[str, Any] = {name: checkpoint.tensors[name].numpy() for name in _ARRAYS}
    return FrozenProbe(
        probe=FittedProbe(**card["probe"], **arrays),
        task=card["task"]["name"],
        kind=card["task"]["kind"],
        target=card["task"]["target"],
        classes=tuple(card["task"]["classes"]),
        calibration=_calibration_of(card["calibration"], n_classes=len(card["task"]["classes"])),
        threshold=card["threshold"]["value"],
        rule=card["threshold"]["rule"],
        vectors=card["vectors"],
        slides=frozenset(card["training"]["slides"]),
        patients=frozenset(card["training"]["patients"]),
        made=card["made"],
    )


def _calibration_of(said: Mapping[str, Any] | None, *, n_classes: int) -> Calibration | None:
    if said is None:
        return None
    offsets = np.array(said["offsets"], dtype=np.float64)
    if offsets.shape != (n_classes,):
        raise ValueError(f"{offsets.shape} offsets of {n_classes} classes")
    return Calibration(slope=float(said["slope"]), offsets=offsets)
