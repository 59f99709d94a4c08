"""Finds H&E tissue on a thumbnail: what takes more green light than grey, ink or glass would."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from gigassl.errors import SettingsError, SlideError
from gigassl.slides.grid import SlideInfo

Plane = Float32[np.ndarray, "row col"]
Mask = Bool[np.ndarray, "row col"]
Channel = UInt8[np.ndarray, "row col"]

_GREY = 0.12  # magenta as a share of the mean density; haematoxylin and eosin lie above 0.3


@dataclass(frozen=True, kw_only=True)
class TissueSettings:
    """How tissue is told from glass, ink and dirt. Densities are natural optical densities.

    Attributes:
        thumbnail_mpp: resolution of the thumbnail that the caller makes, µm/px.
        thumbnail_max_px: longest side of it; larger slides get a coarser one, so memory is bounded.
        smooth_um: spread of the blur that evens out nuclei and JPEG noise.
        floor: a pixel with less magenta density than this is never tissue, so an empty slide stays
            empty whatever Otsu's threshold would be.
        ceiling: a pixel with more magenta density than this always counts as stained; keeps pale
            tissue beside dark tissue.
        grow: paler pixels, down to this share of the threshold, are kept where they touch tissue.
        close_um: gaps up to about twice this are bridged: fat vacuoles, cracks.
        max_hole_um2: enclosed holes up to this area are filled: lumens, vessels, fat.
        min_area_um2: smaller pieces of tissue are dropped.
        dark_level: a pixel whose middle channel is darker than this (0 to 255) is dark.
        max_dark: a slide with a larger dark share, borders aside, is no brightfield slide.
    """

    thumbnail_mpp: float = 8.0
    thumbnail_max_px: int = 3072
    smooth_um: float = 8.0
    floor: float = 0.045
    ceiling: float = 0.10
    grow: float = 0.6
    close_um: float = 24.0
    max_hole_um2: float = 20_000.0
    min_area_um2: float = 20_000.0
    dark_level: float = 60.0
    max_dark: float = 0.5

    def __post_init__(self) -> None:
        for name in ("thumbnail_mpp", "thumbnail_max_px", "floor", "ceiling", "grow"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"tissue setting {name} must be > 0; got {getattr(self, name)}")
        for name in ("smooth_um", "close_um", "max_hole_um2", "min_area_um2"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"tissue setting {name} must be ≥ 0; got {getattr(self, name)}")
        if self.ceiling < self.floor:
            raise SettingsError(
                f"tissue ceiling ({self.ceiling}) must not be below the floor ({self.floor})"
            )
        if self.grow > 1:
            raise SettingsError(f"tissue setting grow is a share up to 1; got {self.grow}")


def thumbnail_mpp(info: SlideInfo, settings: TissueSettings) -> float:
    """Resolution of the thumbnail on which a slide's tissue is found, µm/px."""
    longest_um = max(info.width_l0, info.height_l0) * info.mpp
    return max(settings.thumbnail_mpp, longest_um / settings.thumbnail_max_px)


def find_tissue(
    thumbnail: UInt8[np.ndarray, "row col 3"], *, mpp: float, settings: TissueSettings
) -> Bool[np.ndarray, "row col"]:
    """Where an H&E thumbnail shows tissue; all False on an empty slide.

    Light that passes tissue loses more green than red and blue; what loses all alike (glass edges,
    shadows, dust, black ink, borders) or most of the red (green, blue ink) is not tissue.

    Args:
        thumbnail: RGB picture of the whole slide.
        mpp: its resolution, µm/px.
        settings: thresholds and sizes.

    Raises:
        SlideError: the slide has a dark background, as under fluorescence.
    """
    require_brightfield(thumbnail, settings=settings)
    density = _optical_density(thumbnail, blur_px=settings.smooth_um / mpp)
    magenta = density[..., 1] - (density[..., 0] + density[..., 2]) / 2
    ink = _ink(density)
    # grey is not tissue however dark: black ink is never quite neutral
    magenta[ink | (magenta < _GREY * density.mean(axis=2))] = 0
    threshold = _threshold(magenta, settings)
    stained = _touching(magenta > settings.grow * threshold, seeds=magenta > threshold)
    return _tidied(stained, ink=ink, mpp=mpp, settings=settings)


def require_brightfield(
    thumbnail: UInt8[np.ndarray, "row col 3"], *, settings: TissueSettings
) -> None:
    """Refuses a slide whose background is dark; a black border around a bright slide is fine.

    Raises:
        SlideError: more than ``max_dark`` of the slide, borders aside, is dark.
    """
    # the middle channel: a blue fluorescent stain lights one channel only, H&E at least two
    total = thumbnail.sum(axis=2, dtype=np.int16)
    middle = total - thumbnail.max(axis=2) - thumbnail.min(axis=2)
    dark = middle < settings.dark_level
    rows = np.flatnonzero(dark.mean(axis=1) < 0.97)
    cols = np.flatnonzero(dark.mean(axis=0) < 0.97)
    inner = dark
    if len(rows) and len(cols):
        inner = dark[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    share = float(inner.mean())
    if share > settings.max_dark:
        raise SlideError(
            f"dark background ({share:.0%} of it darker than {settings.dark_level:g} of 255): "
            "looks like a fluorescence slide; pass --tissue none to embed it anyway",
            stage="tissue",
        )


def _optical_density(
    thumbnail: UInt8[np.ndarray, "row col 3"], *, blur_px: float
) -> Float32[np.ndarray, "row col 3"]:
    """Natural optical density relative to the slide's own glass."""
    smooth = cv2.GaussianBlur(thumbnail, (0, 0), sigmaX=blur_px) if blur_px > 0.3 else thumbnail
    levels = np.arange(256, dtype=np.float32)
    table = -np.log((levels[:, None] + 1) / (_glass_rgb(thumbnail)[None, :] + 1))
    table = np.maximum(table, 0).astype(np.float32)[:, None, :]
    return np.asarray(cv2.LUT(smooth, table), dtype=np.float32)


def _glass_rgb(thumbnail: UInt8[np.ndarray, "row col 3"]) -> Float32[np.ndarray, " channel"]:
    """Colour of the empty glass; a usual one where the slide shows none."""
    low, _, high = _ordered_channels(thumbnail)
    # nearly colourless and bright; pure white is what scanners fill in, not glass
    glass = (low >= 200) & (high - low <= 14) & (low < 255)
    if glass.mean() < 0.005:
        return np.array([240, 240, 240], dtype=np.float32)
    return np.array([_median(channel[glass]) for channel in cv2.split(thumbnail)], np.float32)


def _ordered_channels(
    thumbnail: UInt8[np.ndarray, "row col 3"],
) -> tuple[Channel, Channel, Channel]:
    """Lowest, middle and highest channel of each pixel (numpy's own over three is very slow)."""
    red, green, blue = cv2.split(thumbnail)
    lower, upper = cv2.min(red, green), cv2.max(red, green)
    middle = cv2.max(lower, cv2.min(upper, blue))
    return np.asarray(cv2.min(lower, blue)), np.asarray(middle), np.asarray(cv2.max(upper, blue))


def _median(values: UInt8[np.ndarray, " pixel"]) -> float:
    """Median of bytes by counting them."""
    below = np.cumsum(np.bincount(values, minlength=256))
    halves = (len(values) - 1) // 2, len(values) // 2
    return float(np.mean([np.searchsorted(below, half, side="right") for half in halves]))


def _ink(density: Float32[np.ndarray, "row col 3"]) -> Mask:
    """Pen marks: blue and green ink take more red than green light, red ink much blue as well."""
    red, green, blue = cv2.split(density)
    blue_or_green = (red > 1.08 * green + 0.03) & (red > 0.25)
    deep_blue = (red > 1.0) & (blue < 0.25 * red)
    reddish = (green > 0.06) & (red < 0.4 * green) & (blue > 0.78 * green)
    # the pale rim of a stroke is ink too, pink alone is not
    red_pen = _touching(reddish, seeds=reddish & (green > 0.7))
    lowest, mean = cv2.min(cv2.min(red, green), blue), (red + green + blue) / 3
    black = (lowest > 1.3) & (green - (red + blue) / 2 < _GREY * mean)
    return np.asarray(blue_or_green | deep_blue | red_pen | black)


def _threshold(magenta: Plane, settings: TissueSettings) -> float:
    """Otsu's threshold, held between ``floor`` and ``ceiling``."""
    scaled = np.clip(magenta * 400, 0, 255).astype(np.uint8)
    otsu, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(np.clip(otsu / 400, settings.floor, settings.ceiling))


def _touching(candidates: Mask, *, seeds: Mask) -> Mask:
    """The connected pieces of ``candidates`` that hold a seed."""
    _, labels = cv2.connectedComponents(candidates.astype(np.uint8), connectivity=8)
    chosen = np.zeros(int(labels.max()) + 1, dtype=bool)
    chosen[np.unique(labels[seeds])] = True
    chosen[0] = False
    return np.asarray(chosen[labels])


def _tidied(stained: Mask, *, ink: Mask, mpp: float, settings: TissueSettings) -> Mask:
    """Bridges gaps, fills small holes, drops small pieces; ink stays out."""
    mask = stained.astype(np.uint8)
    radius = round(settings.close_um / mpp)
    if radius > 0:
        # OpenCV's own ellipse is not the same turned by 90°
        offsets = np.arange(-radius, radius + 1)
        disc = (np.hypot(offsets[:, None], offsets[None, :]) <= radius + 0.3).astype(np.uint8)
        # closed inside a margin of glass, so that the picture's edge does not attract tissue
        framed = np.pad(mask, radius)
        closed = cv2.morphologyEx(framed, cv2.MORPH_CLOSE, disc)
        mask = np.asarray(closed, dtype=np.uint8)[radius:-radius, radius:-radius]
    holes = _small_pieces(mask == 0, max_px=settings.max_hole_um2 / mpp**2, connectivity=4)
    filled = (mask.astype(bool) | holes) & ~_large_ink(ink, mpp=mpp, settings=settings)
    specks = _small_pieces(filled, max_px=settings.min_area_um2 / mpp**2, connectivity=8)
    return np.asarray(filled & ~specks)


def _large_ink(ink: Mask, *, mpp: float, settings: TissueSettings) -> Mask:
    """Ink without specks: a fold, pigment or blood in tissue is no pen mark."""
    large = ink & ~_small_pieces(ink, max_px=settings.min_area_um2 / mpp**2, connectivity=8)
    # one pixel more: the rim of a stroke mixes ink with what lies below
    return np.asarray(cv2.dilate(large.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def _small_pieces(mask: Mask, *, max_px: float, connectivity: int) -> Mask:
    """The connected pieces of at most ``max_px`` pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=connectivity
    )
    small = stats[:, cv2.CC_STAT_AREA] <= max_px
    small[0] = False
    return np.asarray(small[labels])
