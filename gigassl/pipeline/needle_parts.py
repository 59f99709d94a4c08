"""Finished trainings of a needle curve: point and network of each, so that a killed run goes on."""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gigassl.digests import digest_of_settings, plain
from gigassl.errors import SettingsError
from gigassl.evaluate.needles.curve import NeedleCell, NeedlePoint
from gigassl.evaluate.needles.network import NeedleNetwork, NeedleNetworkSettings
from gigassl.evaluate.needles.training import FittedNeedles, NeedleScore
from gigassl.files import written_whole
from gigassl.tiles.weights import load_checkpoint, reading_card, save_checkpoint


@dataclass(frozen=True, kw_only=True)
class NeedleParts:
    """The folder of finished trainings.

    Attributes:
        folder: where they lie.
        digits: digest of the digits that all images are painted with.
    """

    folder: Path
    digits: str

    def path(self, cell: NeedleCell) -> Path:
        """Where the point of a cell lies; other settings or digits have another place."""
        # the name is for people, and belongs to the curve
        anonymous = replace(cell, variant=replace(cell.variant, name=""))
        digest = digest_of_settings({"cell": plain(anonymous), "digits": self.digits})
        return self.folder / f"{digest}.json"

    def weights(self, cell: NeedleCell) -> Path:
        """Where the network of a cell lies."""
        return self.path(cell).with_suffix(".safetensors")

    def found(self, cell: NeedleCell) -> NeedlePoint | None:
        """What came of a cell before; None where nothing did.

        Raises:
            SettingsError: a damaged file.
        """
        path = self.path(cell)
        if not path.is_file():
            return None
        try:
            said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["point"]
            said |= {name: _score(said[name]) for name in ("train", "validation", "test")}
            return NeedlePoint(**{**said, "variant": cell.variant.name})
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise SettingsError(
                f"{path} is damaged ({error}); remove it, and it is made anew"
            ) from error

    def commit(self, cell: NeedleCell, point: NeedlePoint, fitted: FittedNeedles) -> None:
        """Makes a training safe on disk, the network first: a point says that both are there."""
        card = {"network": plain(cell.variant.network), "cell": plain(cell)}
        save_checkpoint(self.weights(cell), fitted.network.state_dict(), card=card)
        curve = [without_nan(asdict(check)) for check in fitted.curve]
        said = {"point": without_nan(asdict(point)), "curve": curve, "cell": plain(cell)}
        save_json(said, self.path(cell))


def load_needle_network(path: Path) -> NeedleNetwork:
    """A trained network of a needle curve, in evaluation mode.

    Raises:
        SettingsError: no such file, or none of a needle network.
    """
    checkpoint = load_checkpoint(path)
    said = checkpoint.card.get("network")
    if said is None:
        raise SettingsError(f"{path} holds no needle network")
    with reading_card(path):
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in said.items()
        }
        network = NeedleNetwork(NeedleNetworkSettings(**settings))
        network.load_state_dict(dict(checkpoint.tensors))
        return network.eval()


def save_json(value: Any, path: Path) -> None:
    """Writes plain values; the file appears whole."""
    with written_whole(path) as part:
        part.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def without_nan(value: Any) -> Any:
    """The same with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _score(said: dict[str, float | None]) -> NeedleScore:
    return NeedleScore(**{name: math.nan if v is None else v for name, v in said.items()})
