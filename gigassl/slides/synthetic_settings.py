"""The settings record of a synthetic slide."""

from dataclasses import dataclass
from typing import Literal, get_args

from gigassl.errors import SettingsError
from gigassl.slides.disturb import PenColour
from gigassl.slides.paint import TISSUE_TYPES

Arrangement = Literal["mixed", "clustered"]
ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """Everything that decides a synthetic slide; same settings, same pixels.

    Attributes:
        width_px, height_px: size of the finest level.
        mpp: µm/px of the finest level.
        seed: decides shapes, squares, stains; outline, squares and stains of a seed are the same in
            both arrangements.
        composition: shares of the ``TISSUE_TYPES``, in that order; scaled to sum to 1.
        arrangement: ``mixed`` strews the types at random, ``clustered`` gives each type one region.
            Both hold exactly the same squares, so an average over tiles cannot tell them apart.
        cell_um: side of the square that holds one type; the default is a 224 px tile at 0.5 µm/px.
        tissue_fraction: share of the slide that is tissue.
        fragments: pieces of tissue.
        stain_strength: 1 is a usual stain, 0.35 a pale one.
        stain_variation: how far colours stray from slide to slide; 0 keeps the reference stain.
        pen: colour of a pen mark, or None.
        border: frame the slide in black, as scanners fill what they did not scan.
        glass_edge: a grey shadow of the cover slip's edge.
        dust: grey specks on the glass.
        blank: glass only.
    """

    width_px: int = 4032
    height_px: int = 4032
    mpp: float = 0.5
    seed: int = 0
    composition: tuple[float, ...] = (0.35, 0.25, 0.15, 0.15, 0.10, 0.0)
    arrangement: Arrangement = "mixed"
    cell_um: float = 112.0
    tissue_fraction: float = 0.45
    fragments: int = 1
    stain_strength: float = 1.0
    stain_variation: float = 1.0
    pen: PenColour | None = None
    border: bool = False
    glass_edge: bool = False
    dust: bool = False
    blank: bool = False

    def __post_init__(self) -> None:
        if min(self.width_px, self.height_px) < 2 * self.cell_px:
            raise SettingsError(
                f"a synthetic slide needs at least two squares of {self.cell_px} px a side; "
                f"got {self.width_px} × {self.height_px} px"
            )
        if len(self.composition) != len(TISSUE_TYPES) or min(self.composition) < 0:
            raise SettingsError(
                f"composition needs a share ≥ 0 for each of {', '.join(TISSUE_TYPES)}; "
                f"got {self.composition}"
            )
        if sum(self.composition) <= 0:
            raise SettingsError("composition must hold at least one share above 0")
        if self.arrangement not in ARRANGEMENTS:
            raise SettingsError(f"arrangement is mixed or clustered; got '{self.arrangement}'")
        if not 0.0 < self.tissue_fraction <= 0.8:
            raise SettingsError(
                f"tissue fraction must be above 0 and at most 0.8; got {self.tissue_fraction}"
            )

    @property
    def cell_px(self) -> int:
        """Side in px of the square that holds one tissue type."""
        return max(16, round(self.cell_um / self.mpp))
