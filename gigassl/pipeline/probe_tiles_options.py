"""What ``probe_tiles`` is told beside images and encoders."""

from dataclasses import dataclass, field
from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.evaluate.comparison import CompareSettings
from gigassl.evaluate.splits import SplitSettings
from gigassl.tiles.engine import DEFAULT_BATCH_SIZE


@dataclass(frozen=True, kw_only=True)
class ProbeTilesOptions:
    """Where labels are, how encoders run, and how they are judged.

    Attributes:
        labels, label_column, group_column, group_pattern: as in ``read_labelled``.
        image_mpp: µm/px of the images, which are then cut into tiles at each encoder's own µm/px;
            None: each image is one tile.
        split: folds; groups are never divided.
        neighbours: that vote in the kNN probe.
        controls: whether the same networks with random weights, and the colour of the images, are
            judged as well.
        compare: how the table is made.
        backend, device, precision, batch_size: of the encoders.
        workers: reader threads.
    """

    labels: Path | None = None
    label_column: str | None = None
    group_column: str | None = None
    group_pattern: str | None = None
    image_mpp: float | None = None
    split: SplitSettings = field(default_factory=SplitSettings)
    neighbours: int = 20
    controls: bool = True
    compare: CompareSettings = field(default_factory=CompareSettings)
    backend: str = "torch"
    device: str = "auto"
    precision: str | None = None
    batch_size: int = DEFAULT_BATCH_SIZE
    workers: int = 2

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise SettingsError(f"at least 1 reader thread is needed; got {self.workers}")
        if self.compare.reference is not None or self.compare.metric is not None:
            raise SettingsError("encoders are compared with the first one, by AUC")
