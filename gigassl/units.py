"""Conversions between micrometres, level-0 pixels and pixels of a pyramid level; each exists once.

Coordinates are (x, y), sizes (width, height), arrays (row, column, channel). A name ends in its
unit: ``_l0`` level-0 pixels, ``_px`` pixels of the plane at hand, ``_um`` micrometres, ``mpp`` µm
per pixel.
"""


def l0_from_px(size_px: float, *, mpp: float, mpp_l0: float) -> float:
    """Length in level-0 pixels of ``size_px`` pixels at ``mpp``.

    >>> l0_from_px(224, mpp=0.5, mpp_l0=0.25)
    448.0
    """
    return size_px * mpp / mpp_l0


def l0_from_um(length_um: float, *, mpp_l0: float) -> float:
    """Length in level-0 pixels of ``length_um`` micrometres.

    >>> l0_from_um(112.0, mpp_l0=0.25)
    448.0
    """
    return length_um / mpp_l0


def um_from_l0(length_l0: float, *, mpp_l0: float) -> float:
    """Length in micrometres of ``length_l0`` level-0 pixels.

    >>> um_from_l0(448, mpp_l0=0.25)
    112.0
    """
    return length_l0 * mpp_l0


def mpp_from_magnification(magnification: float) -> float:
    """µm per pixel that an objective's magnification stands for, by the convention 20x = 0.5.

    >>> mpp_from_magnification(40)
    0.25
    """
    return 10.0 / magnification


def magnification_from_mpp(mpp: float) -> float:
    """Magnification that ``mpp`` stands for, by the convention 0.5 µm/px = 20x.

    >>> magnification_from_mpp(0.5)
    20.0
    """
    return 10.0 / mpp
