"""Composes one synthetic slide: a picture like H&E at a glance, with everything in it known."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from gigassl.slides.disturb import (
    draw_black_border,
    draw_dust,
    draw_glass_edge,
    draw_pen,
)
from gigassl.slides.paint import (
    STAIN_OD,
    TISSUE_TYPES,
    colour_stains,
    lobule_mask,
    paint_stains,
    smooth_noise,
)
from gigassl.slides.synthetic_settings import SyntheticSettings

_VARIANTS = 6  # squares painted per tissue type; each is also turned and mirrored, so 48 looks
_SHAPE_STEP = 16  # tissue outlines are drawn this much coarser, then sharpened
NO_TISSUE = -1


@dataclass(frozen=True, kw_only=True)
class SyntheticSlide:
    """A painted slide and the truth about it.

    Attributes:
        image: the finest level.
        tissue: True where there is tissue that no pen mark or border hides.
        types: tissue type of each square of ``cell_px`` (index into ``TISSUE_TYPES``), -1 where the
            square is less than half tissue; what a pen mark or border hides counts as well.
        settings: what it was painted from.
    """

    image: UInt8[np.ndarray, "row col 3"]
    tissue: Bool[np.ndarray, "row col"]
    types: Int64[np.ndarray, "cell_row cell_col"]
    settings: SyntheticSettings


@dataclass(frozen=True, kw_only=True)
class _Bank:
    """Painted squares of one slide and the weight with which each covers the common ground."""

    squares: list[list[UInt8[np.ndarray, "row col 3"]]]
    masks: list[Float32[np.ndarray, "row col"]]
    ground: UInt8[np.ndarray, "ground_row ground_col 3"]


def paint_slide(settings: SyntheticSettings) -> SyntheticSlide:
    """Paints a slide; a 4,032 px square takes about a second."""
    streams = np.random.SeedSequence(settings.seed).spawn(5)
    shape_rng, bank_rng, stain_rng, place_rng, glass_rng = map(np.random.default_rng, streams)
    stain_od, glass = _draw_stain(settings, rng=stain_rng)
    image = _paint_glass(settings, glass=glass, rng=glass_rng)
    tissue = np.zeros(image.shape[:2], dtype=bool)
    types = _cell_tissue(tissue, cell_px=settings.cell_px).astype(np.int64) + NO_TISSUE
    if not settings.blank:
        tissue = _tissue_shape(settings, rng=shape_rng)
        held = _cell_tissue(tissue, cell_px=settings.cell_px)
        bank = _paint_bank(settings, stain_od=stain_od, glass=glass, rng=bank_rng)
        types, variants = _place_types(held, settings, rng=place_rng)
        canvas = _paint_squares(types, variants, settings=settings, bank=bank)
        image = _lay_on_glass(canvas, image, tissue=tissue)
    hidden = _disturb(image, settings, rng=glass_rng)
    return SyntheticSlide(image=image, tissue=tissue & ~hidden, types=types, settings=settings)


def _draw_stain(
    settings: SyntheticSettings, *, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Optical density of both stains and the colour of the glass, strayed from the reference."""
    stray = settings.stain_variation
    od = STAIN_OD * (1 + 0.07 * stray * rng.standard_normal(STAIN_OD.shape).clip(-2, 2))
    strengths = np.exp(0.12 * stray * rng.standard_normal((2, 1)).clip(-2, 2))
    glass = np.array([243.0, 242.0, 245.0]) - stray * rng.uniform(0, 4) + rng.uniform(-1, 1, 3)
    return od * strengths * settings.stain_strength, glass


def _paint_glass(
    settings: SyntheticSettings, *, glass: np.ndarray, rng: np.random.Generator
) -> UInt8[np.ndarray, "row col 3"]:
    shape = (settings.height_px, settings.width_px)
    grain = rng.normal(0.0, 1.0, (256, 256, 3))
    patch = np.clip(glass + grain + 0.5, 0, 255).astype(np.uint8)
    repeats = (-(-shape[0] // 256), -(-shape[1] // 256), 1)
    return np.ascontiguousarray(np.tile(patch, repeats)[: shape[0], : shape[1]])


def _tissue_shape(
    settings: SyntheticSettings, *, rng: np.random.Generator
) -> Bool[np.ndarray, "row col"]:
    """Ragged fragments that cover ``tissue_fraction`` of the slide and stay off its edges."""
    full = (settings.height_px, settings.width_px)
    rows, cols = (max(8, length // _SHAPE_STEP) for length in full)
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, cols), indexing="ij")
    field = np.full((rows, cols), -9.0)
    for i in range(settings.fragments):
        # fragments lie side by side along the longer side
        along = (2 * i + 1) / settings.fragments - 1
        across = rng.uniform(-0.12, 0.12)
        centre_x, centre_y = (along, across) if cols >= rows else (across, along)
        a, b = rng.uniform(0.8, 1.1, 2) / (settings.fragments if settings.fragments > 1 else 1)
        field = np.maximum(field, 1 - np.hypot((x - centre_x) / a, (y - centre_y) / b))
    side = min(rows, cols)
    for share, weight in ((0.30, 0.16), (0.12, 0.08), (0.04, 0.03)):
        field = field + weight * smooth_noise((rows, cols), scale_px=max(2, side * share), rng=rng)
    rim = np.minimum(1 - np.abs(x), 1 - np.abs(y))
    field = np.where(rim < 0.04, -9.0, field - np.clip(0.15 - rim, 0, 1) * 4)
    level = np.quantile(field, 1 - settings.tissue_fraction)
    sharp = cv2.resize(
        np.maximum(field - level, -1).astype(np.float32), full[::-1], interpolation=cv2.INTER_LINEAR
    )
    sharp += 0.012 * smooth_noise(full, scale_px=12 / settings.mpp, rng=rng)
    return np.asarray(sharp > 0)


def _cell_tissue(
    tissue: Bool[np.ndarray, "row col"], *, cell_px: int
) -> Float32[np.ndarray, "cell_row cell_col"]:
    """Fraction of tissue of each whole square; squares cut by the slide's edge are left out."""
    rows, cols = (length // cell_px for length in tissue.shape)
    whole = tissue[: rows * cell_px, : cols * cell_px].astype(np.float32)
    return np.asarray(cv2.resize(whole, (cols, rows), interpolation=cv2.INTER_AREA)).reshape(
        rows, cols
    )


def _paint_bank(
    settings: SyntheticSettings,
    *,
    stain_od: np.ndarray,
    glass: np.ndarray,
    rng: np.random.Generator,
) -> _Bank:
    side, mpp = settings.cell_px, settings.mpp

    def square(tissue_type: int, side_px: int) -> UInt8[np.ndarray, "row col 3"]:
        stains = paint_stains(TISSUE_TYPES[tissue_type], side_px=side_px, mpp=mpp, rng=rng)
        return colour_stains(stains, stain_od=stain_od, glass_rgb=glass)

    used = [share > 0 for share in settings.composition]
    return _Bank(
        squares=[
            [square(t, side) for _ in range(_VARIANTS)] if used[t] else [] for t in range(len(used))
        ],
        masks=[lobule_mask(side, mpp=mpp, rng=rng) for _ in range(_VARIANTS)],
        ground=square(TISSUE_TYPES.index("stroma"), 3 * side),
    )


def _place_types(
    held: Float32[np.ndarray, "cell_row cell_col"],
    settings: SyntheticSettings,
    *,
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, "cell_row cell_col"], Int64[np.ndarray, "cell_row cell_col"]]:
    """Type and look of each square; both arrangements deal out exactly the same squares.

    Whole squares and squares cut by the tissue's edge are dealt apart, so that no arrangement puts
    more of one type at the rim, where an average over tiles would see less of it.
    """
    turn = rng.uniform(0, 2 * np.pi)
    bends = smooth_noise(held.shape, scale_px=max(2.0, max(held.shape) / 3), rng=rng)
    row, col = np.indices(held.shape)
    along = row * np.sin(turn) + col * np.cos(turn) + 0.12 * max(held.shape) * bends
    shares = np.array(settings.composition) / sum(settings.composition)
    rank = rng.permutation(len(shares))
    types = np.full(held.shape, NO_TISSUE, dtype=np.int64)
    looks = np.zeros(held.shape, dtype=np.int64)
    for group in (held >= 1, (held >= 0.5) & (held < 1)):
        places = np.argwhere(group)
        ends = np.rint(np.cumsum(shares) * len(places)).astype(np.int64)
        dealt = np.searchsorted(ends, np.arange(len(places)), side="right").astype(np.int64)
        dealt_looks = rng.integers(0, _VARIANTS * 8, len(places))
        # drawn for both arrangements, so that a seed means the same slide in both
        order = rng.permutation(len(places))
        deck = np.arange(len(places))
        if settings.arrangement == "clustered":
            order = np.argsort(along[group], kind="stable")
            deck = np.argsort(rank[dealt], kind="stable")
        rows, cols = places[order].T
        types[rows, cols] = dealt[deck]
        looks[rows, cols] = dealt_looks[deck]
    return types, looks


def _paint_squares(
    types: Int64[np.ndarray, "cell_row cell_col"],
    variants: Int64[np.ndarray, "cell_row cell_col"],
    *,
    settings: SyntheticSettings,
    bank: _Bank,
) -> UInt8[np.ndarray, "row col 3"]:
    """The common stroma, mirrored to and fro so that no seam shows, with the squares on it."""
    side, period = settings.cell_px, len(bank.ground)
    bounce = np.concatenate([np.arange(period), np.arange(period)[::-1]])
    row_ids = bounce[np.arange(settings.height_px) % (2 * period)]
    col_ids = bounce[np.arange(settings.width_px) % (2 * period)]
    canvas: UInt8[np.ndarray, "row col 3"] = bank.ground[row_ids][:, col_ids]
    rest = [1 - mask for mask in bank.masks]
    for row, col in np.argwhere(types != NO_TISSUE):
        variant, look = divmod(int(variants[row, col]), 8)
        square = np.rot90(bank.squares[types[row, col]][variant], look % 4)
        square = np.ascontiguousarray(square[:, ::-1] if look >= 4 else square)
        place = (slice(row * side, (row + 1) * side), slice(col * side, (col + 1) * side))
        which = (variant + look) % _VARIANTS
        canvas[place] = cv2.blendLinear(square, canvas[place], bank.masks[which], rest[which])
    return canvas


def _lay_on_glass(
    canvas: UInt8[np.ndarray, "row col 3"],
    glass: UInt8[np.ndarray, "row col 3"],
    *,
    tissue: Bool[np.ndarray, "row col"],
) -> UInt8[np.ndarray, "row col 3"]:
    cover = cv2.GaussianBlur(tissue.astype(np.float32), (0, 0), sigmaX=1.2)
    laid: UInt8[np.ndarray, "row col 3"] = cv2.blendLinear(canvas, glass, cover, 1 - cover)
    return laid


def _disturb(
    image: UInt8[np.ndarray, "row col 3"],
    settings: SyntheticSettings,
    *,
    rng: np.random.Generator,
) -> Bool[np.ndarray, "row col"]:
    """Draws what does not belong to the tissue onto the image; True where it hides tissue."""
    hidden = np.zeros(image.shape[:2], dtype=bool)
    if settings.dust:
        draw_dust(image, mpp=settings.mpp, rng=rng)
    if settings.glass_edge:
        draw_glass_edge(image, mpp=settings.mpp, rng=rng)
    if settings.pen is not None:
        hidden |= draw_pen(image, settings.pen, rng=rng)
    if settings.border:
        hidden |= draw_black_border(image)
    return hidden
