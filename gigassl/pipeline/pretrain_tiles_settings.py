"""Settings of a training of a tile encoder, and how it is carried out."""

from dataclasses import dataclass, field, replace

from gigassl.errors import SettingsError
from gigassl.pipeline.pretrain_tiles_data import TileDataOptions, TileDataSettings
from gigassl.pipeline.pretrain_tiles_files import Kept
from gigassl.tiles.labelled_images import LabelledTiles
from gigassl.tiles.pretrain.catalogue import METHOD_NETWORKS, METHOD_PRESETS, METHODS
from gigassl.tiles.pretrain.settings import TilePretrainSettings
from gigassl.tiles.training_networks import BegunNetwork, TileNetwork, begun_network

MANY_STEPS = 10**9
"""For a method that is only looked at, when how many steps there are is not known yet."""


@dataclass(frozen=True, kw_only=True)
class PretrainTilesSettings:
    """Everything that decides a tile encoder, beside the slides.

    Attributes:
        training: method, views, steps.
        network: which network is trained, and what it begins as.
        data: which tiles it learns from.
    """

    training: TilePretrainSettings = field(default_factory=lambda: METHOD_PRESETS["moco"])
    network: TileNetwork = field(default_factory=TileNetwork)
    data: TileDataSettings = field(default_factory=TileDataSettings)

    @property
    def mpp(self) -> float:
        """µm/px at which a tile has as many px as a large view."""
        grid = self.data.tiles.grid
        return grid.target_mpp * grid.tile_px / self.training.views.side_px


@dataclass(frozen=True, kw_only=True)
class PretrainTilesOptions:
    """How a training is carried out; none of it shapes the weights of the last round.

    Attributes:
        device, devices, nodes: "auto", "cpu" or "cuda", how many of a machine, and machines.
        workers: processes that read tiles; None chooses: none beside a network on the CPU.
        checkpoint_minutes: between two states.
        restart: train anew over what is there.
        keep: whether ``out`` is the encoder of the last round or of the best one; the other lies
            in the log. None for the last, or the best where patients are held out.
        exam: labelled tiles for kNN accuracy, which also says which round is the best.
        data: how slides are found.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int | None = None
    checkpoint_minutes: float = 10.0
    restart: bool = False
    keep: Kept | None = None
    exam: LabelledTiles | None = None
    data: TileDataOptions = field(default_factory=TileDataOptions)

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise SettingsError(f"--workers must not be negative; got {self.workers}")
        if not self.checkpoint_minutes >= 0:
            raise SettingsError(f"minutes are not negative; got {self.checkpoint_minutes}")


def completed(
    settings: PretrainTilesSettings, options: PretrainTilesOptions
) -> PretrainTilesSettings:
    """The settings, which say what follows from the options and from the method.

    Whether masks are used instead of detection; the method's own network; and that tiles come with
    neighbours, where it learns from these.
    """
    data, network, method = settings.data, settings.network, settings.training.method
    tiles = replace(data.tiles, external_masks=options.data.masks is not None)
    sampling = data.sampling
    if method in METHODS and METHODS[method].wants_neighbours:
        sampling = replace(sampling, neighbours=True)
    if network.architecture is None and network.init_from is None:
        network = replace(network, architecture=METHOD_NETWORKS.get(method))
    return replace(settings, network=network, data=replace(data, tiles=tiles, sampling=sampling))


def kept_round(options: PretrainTilesOptions, settings: PretrainTilesSettings) -> Kept:
    """Which round's encoder is the result: asked for, or the best where patients are held out."""
    return options.keep or ("best" if settings.training.validation else "last")


def begun(settings: PretrainTilesSettings) -> BegunNetwork:
    """The network as training finds it.

    Raises:
        SettingsError: unknown name, other weights, or views of a side that it does not take.
    """
    views = settings.training.views
    sides = [views.side_px, *([views.small_px] if views.n_small else [])]
    return begun_network(settings.network, sides_px=sides, seed=settings.training.seed)
