"""Models kept of a MIL run: one file a split, named after its method and split."""

import re
from dataclasses import dataclass
from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.evaluate.mil.saved import SavedMil, save_mil_model
from gigassl.evaluate.split import Split
from gigassl.tiles.weights import load_checkpoint

SUFFIX = ".safetensors"


def models_beside(out: Path) -> Path:
    """Where the models of an output are kept.

    >>> models_beside(Path("runs/mil.parquet")).as_posix()
    'runs/mil.parquet.models'
    """
    return out.with_name(f"{out.name}.models")


def model_name(method: str, split: Split) -> str:
    """Name of the file of a model."""
    size = split.train_size.replace("%", "pct").replace("=", "")
    said = f"{method}-{split.scheme}-{size}-draw{split.draw}-fold{split.fold}"
    return re.sub(r"[^\w.-]+", "-", said) + SUFFIX


@dataclass(frozen=True, kw_only=True)
class KeptModels:
    """The folder of the kept models of one output.

    Attributes:
        folder: beside the output.
    """

    folder: Path

    def holds(self, method: str, split: Split, *, run: str) -> bool:
        """Whether the model is there, of this very run and not of an earlier one."""
        path = self.folder / model_name(method, split)
        try:
            return path.is_file() and load_checkpoint(path).card["made"]["run"] == run
        except (SettingsError, KeyError, TypeError):
            return False  # damaged, or no model of ours: it is trained and written again

    def keep(self, saved: SavedMil, split: Split) -> None:
        """Makes a model safe on disk; its ``made`` says of which run it is.

        Raises:
            MachineError: disk full, quota, read-only folder.
        """
        self.folder.mkdir(exist_ok=True)
        save_mil_model(saved, self.folder / model_name(saved.method, split))
