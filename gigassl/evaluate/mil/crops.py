"""Crops of compressed slides: where the tiles of a store lie on their grids, and what a CNN reads.

Neural Image Compression (Tellez et al., arXiv 1811.02840): a training crop lies about a cell drawn
by its distance to the background; tests take the mean over crops spread over the tissue.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from gigassl.bags.grid import crop_centres, distance_map, spread_centres
from gigassl.errors import SettingsError
from gigassl.evaluate.mil.bags import ROWS_AT_ONCE, BagReader, Standard
from gigassl.evaluate.mil.grid_cnn import crop_for
from gigassl.evaluate.mil.models import ON_CROPS
from gigassl.evaluate.mil.packed import PackedBags
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.vectors.tile_store import TileStore

TEST_CROPS = 10
"""Crops of a variant of a slide that a prediction is the mean of, as in the paper."""

CROPS_AT_ONCE = 16
"""Crops that are predicted from in one go: a batch of the paper."""


@dataclass(frozen=True, kw_only=True)
class SlideGrid:
    """Where the tiles of one variant of a slide lie.

    Attributes:
        first: row of the store where they begin.
        cells: (row, column) of each, from the corner of the box around them.
    """

    first: int
    cells: Int64[Tensor, "tile 2"]

    def kept(self) -> Bool[Tensor, "row col"]:
        """Which cells of the box hold a tile."""
        n_rows, n_cols = (self.cells.amax(dim=0) + 1).tolist()
        found = torch.zeros(n_rows, n_cols, dtype=torch.bool)
        found[self.cells[:, 0], self.cells[:, 1]] = True
        return found


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The tiles of a square of a grid.

    Attributes:
        rows: of the store.
        cells: (row, column) of each in the crop.
        corner: (row, column) of the crop's first cell in its grid; may lie outside.
    """

    rows: Int64[Tensor, " tile"]
    cells: Int64[Tensor, "tile 2"]
    corner: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class CropReader:
    """Reads square crops of the grids of a store's slides; each crop is a bag of its own.

    A variant is a group of the store. Where bags hold the eight turned ones, a training crop is of
    one of them; where they do not, nothing is turned: an encoder says other things of a turned
    tile, so turned places of tiles as they are would be a slide that no test shows.

    Attributes:
        bags: reads the tiles.
        side: of a crop, in cells; zeros where it leaves the slide, or no tile is.
        n_crops: of each variant, that are predicted from; fewer of slides with fewer tiles.
        n_variants: that are predicted from; None for all that the store holds.
    """

    bags: BagReader
    side: int
    n_crops: int = TEST_CROPS
    n_variants: int | None = None

    @property
    def store(self) -> TileStore:
        """Of all slides."""
        return self.bags.store

    @property
    def device(self) -> torch.device:
        """Where crops go."""
        return self.bags.device

    @property
    def standard(self) -> Standard | None:
        """What features are brought to."""
        return self.bags.standard

    def for_watching(self) -> "CropReader":
        """One crop a slide, about the middle of its tissue: what an epoch can afford."""
        return replace(self, n_crops=1, n_variants=1)

    def batch(
        self, slides: Sequence[int], *, max_tiles: int | None = None,
        generator: torch.Generator | None = None,
    ) -> PackedBags:  # fmt: skip
        """A random crop of a random variant of each slide.

        Args:
            slides: numbers of the store's slides.
            max_tiles: so many tiles of fuller crops are drawn; the places of others stay empty.
            generator: of all draws.
        """
        generator = generator or torch.Generator().manual_seed(0)
        drawn = (self._drawn(slide, generator) for slide in slides)
        return self.packed([_thinned(crop, max_tiles, generator) for crop in drawn])

    def in_turn(self, slides: Sequence[int]) -> Iterator[PackedBags]:
        """The test crops of these slides, ``n_views`` of each, a bounded number at a time."""
        waiting: list[Crop] = []
        n_rows = 0
        for slide in slides:
            for crop in self.test_crops(slide):
                full = len(waiting) == CROPS_AT_ONCE or n_rows + len(crop.rows) > ROWS_AT_ONCE
                if waiting and full:
                    yield self.packed(waiting)
                    waiting, n_rows = [], 0
                waiting.append(crop)
                n_rows += len(crop.rows)
        yield self.packed(waiting)

    def n_views(self, slide: int) -> int:
        """Number of test crops of a slide."""
        counts = self.store.count[slide, : self.n_variants]
        return int(counts.clamp(max=self.n_crops).sum())

    def test_crops(self, slide: int) -> Iterator[Crop]:
        """Crops of each variant of a slide about centres spread over its tissue."""
        for variant in range(self.store.count[slide, : self.n_variants].numel()):
            grid = self.grid(slide, variant)
            for centre in spread_centres(grid.kept(), self.n_crops):
                yield self.crop(grid, centre)

    def grid(self, slide: int, variant: int = 0) -> SlideGrid:
        """Where the tiles of a variant of a slide lie."""
        first = int(self.store.first[slide, variant])
        count = int(self.store.count[slide, variant])
        cells = _cells_of(self.store)[first : first + count].long().cpu()
        return SlideGrid(first=first, cells=cells - cells.amin(dim=0))

    def crop(self, grid: SlideGrid, centre: Int64[Tensor, "2"]) -> Crop:
        """The tiles of a grid that lie in the crop about a cell.

        A crop that would leave the grid is moved inward until it holds all of it that it can: on
        grids hardly larger than a crop, half of most crops would be empty otherwise.
        """
        corner = centre - self.side // 2
        beyond = grid.cells.amax(dim=0) + 1 - self.side
        corner = corner.clamp(min=beyond.clamp(max=0), max=beyond.clamp(min=0))
        cells = grid.cells - corner
        inside = ((cells >= 0) & (cells < self.side)).all(dim=1).nonzero()[:, 0]
        return Crop(
            rows=grid.first + inside, cells=cells[inside], corner=(int(corner[0]), int(corner[1]))
        )

    def packed(self, crops: Sequence[Crop]) -> PackedBags:
        """Crops as bags with cells, on the device; each holds a tile at least."""
        tiles = [self.store.features[_as_index(crop.rows, self.store.device)] for crop in crops]
        packed = self.bags.packed(tiles)
        cells = torch.cat([crop.cells for crop in crops]).to(self.device, non_blocking=True)
        return replace(packed, cells=cells)

    def _drawn(self, slide: int, generator: torch.Generator) -> Crop:
        n_variants = self.store.count.shape[1]
        variant = int(torch.randint(n_variants, (), generator=generator))
        grid = self.grid(slide, variant)
        centre = crop_centres(distance_map(grid.kept()), 1, generator=generator)[0]
        return self.crop(grid, centre)


def extent_of(store: TileStore) -> int:
    """Rows or columns, whichever are more, of the largest box around the tiles of a slide.

    Raises:
        SettingsError: the store holds no compressed slides.
    """
    cells = _cells_of(store)
    spans = zip(store.first[:, 0].tolist(), store.count[:, 0].tolist(), strict=True)
    boxes = (cells[first : first + count] for first, count in spans)
    return max(int((box.amax(dim=0) - box.amin(dim=0)).max()) + 1 for box in boxes)


def _cells_of(store: TileStore) -> Int32[Tensor, "row 2"]:
    if store.cells is None:
        raise SettingsError(
            "nic-cnn sees slides as images of features and wants bags whose tiles lie on a grid; a "
            "bank holds tiles drawn at random. Give the bags of `gigassl encode`, best with "
            "--variants (from Python: training_data(..., on_grid=True))"
        )
    return store.cells


Reader = BagReader | CropReader
"""What gives bags to a model: whole ones, or crops."""


def reader_for(settings: MilSettings, bags: BagReader) -> Reader:
    """A reader that gives bags as a model takes them."""
    if settings.model not in ON_CROPS:
        return bags
    return CropReader(bags=bags, side=settings.options["crop"])


def settled(settings: MilSettings, store: TileStore) -> MilSettings:
    """Settings with the side of the crops, where they do not say it: by the largest slide.

    Raises:
        SettingsError: a model that wants compressed slides, and a store of others.
    """
    if settings.model not in ON_CROPS:
        return settings
    side = crop_for(extent_of(store))
    return replace(settings, options={"crop": side, **settings.options})


def _thinned(crop: Crop, max_tiles: int | None, generator: torch.Generator) -> Crop:
    if max_tiles is None or len(crop.rows) <= max_tiles:
        return crop
    kept = torch.randperm(len(crop.rows), generator=generator)[:max_tiles].sort().values
    return replace(crop, rows=crop.rows[kept], cells=crop.cells[kept])


def _as_index(rows: Int64[Tensor, " tile"], device: torch.device) -> slice | Tensor:
    """Rows that lie behind one another as a slice, which a file gives at once."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows.to(device)
