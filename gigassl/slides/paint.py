"""Paint for synthetic slides: squares of six tissue types as amounts of two stains."""

import math
from collections.abc import Callable
from typing import Literal, get_args

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

TissueType = Literal["stroma", "tumour", "gland", "lymphocytes", "necrosis", "fat"]
TISSUE_TYPES: tuple[TissueType, ...] = get_args(TissueType)

Plane = Float32[np.ndarray, "row col"]
Stains = Float32[np.ndarray, "row col 2"]

# Optical density (R, G, B) of one unit of haematoxylin and of eosin, as seen on scanned H&E slides;
# the classical vectors of Ruifrok and Johnston (2001) give an eosin that is too violet on a screen.
STAIN_OD = np.array([[0.65, 0.75, 0.38], [0.07, 0.85, 0.42]], dtype=np.float64)


def smooth_noise(
    shape: tuple[int, int], *, scale_px: float, rng: np.random.Generator
) -> Float32[np.ndarray, "row col"]:
    """Random field of mean 0 and spread 1 whose blobs are about ``scale_px`` wide."""
    rows, cols = (max(2, math.ceil(length / scale_px) + 1) for length in shape)
    coarse = rng.standard_normal((rows, cols), dtype=np.float32)
    fine = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    result: Plane = (fine - fine.mean()) / (fine.std() + 1e-6)
    return result


def paint_stains(
    tissue_type: TissueType, *, side_px: int, mpp: float, rng: np.random.Generator
) -> Float32[np.ndarray, "row col 2"]:
    """A square of one tissue type: amounts of haematoxylin and eosin per pixel.

    Args:
        tissue_type: one of ``TISSUE_TYPES``.
        side_px: side of the square in px.
        mpp: µm/px; nuclei and glands keep their size in µm.
        rng: source of all randomness.
    """
    stains = _PAINTERS[tissue_type](side_px, mpp, rng)
    grain = smooth_noise((side_px, side_px), scale_px=max(1.5, 1.0 / mpp), rng=rng)
    result: Stains = np.maximum(stains * (1 + 0.08 * grain[..., None]), 0)
    return result


def colour_stains(
    stains: Float32[np.ndarray, "row col 2"],
    *,
    stain_od: Float64[np.ndarray, "stain 3"],
    glass_rgb: Float64[np.ndarray, " channel"],
) -> UInt8[np.ndarray, "row col 3"]:
    """Light that passes through the stains (Beer-Lambert), as an RGB image."""
    density = stains @ stain_od.astype(np.float32)
    light = glass_rgb.astype(np.float32) * np.exp(-density)
    result: UInt8[np.ndarray, "row col 3"] = np.clip(light + 0.5, 0, 255).astype(np.uint8)
    return result


def lobule_mask(
    side_px: int, *, mpp: float, rng: np.random.Generator
) -> Float32[np.ndarray, "row col"]:
    """Weight 0 to 1 of a ragged, rounded blob that stays inside its square.

    The rim of every square shows the common ground, so a square looks the same whatever its
    neighbours are: that keeps the average of a slide's tiles blind to their arrangement.
    """
    axis = (np.arange(side_px, dtype=np.float32) + 0.5) / side_px * 2 - 1
    x, y = axis[None, :], axis[:, None]
    radius = (np.abs(x) ** 3.2 + np.abs(y) ** 3.2) ** (1 / 3.2)
    wobble = smooth_noise((side_px, side_px), scale_px=20 / mpp, rng=rng)
    inside = 0.90 - radius - 0.035 * wobble
    hard_rim = np.minimum(1, (1 - np.maximum(np.abs(x), np.abs(y))) * 14)
    result: Plane = (np.clip(inside / 0.03, 0, 1) * hard_rim).astype(np.float32)
    return result


def _scatter(
    side_px: int, *, spacing_px: float, rng: np.random.Generator
) -> Float64[np.ndarray, "point 2"]:
    """Points about ``spacing_px`` apart: a grid whose points are shaken."""
    axis = np.arange(-spacing_px, side_px + spacing_px, spacing_px)
    x, y = np.meshgrid(axis, axis)
    x[::2] += spacing_px / 2
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    return points + rng.uniform(-0.42, 0.42, points.shape) * spacing_px


def _nuclei(
    points: Float64[np.ndarray, "point 2"],
    *,
    side_px: int,
    radii_px: tuple[float, float],
    angle_deg: float | None,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "row col"]:
    """Haematoxylin of ellipses at ``points``; without an angle each lies its own way."""
    plane = np.zeros((side_px, side_px), dtype=np.uint8)
    count = len(points)
    sizes = np.array(radii_px) * rng.lognormal(0.0, 0.18, (count, 2))
    spread = 12.0 if angle_deg is not None else 360.0
    angles = (angle_deg or 0.0) + rng.uniform(-spread, spread, count)
    shades = rng.uniform(110, 190, count)
    for point, size, angle, shade in zip(points, sizes, angles, shades, strict=True):
        cv2.ellipse(
            plane,
            (round(point[0] * 16), round(point[1] * 16)),
            (max(8, round(size[0] * 16)), max(8, round(size[1] * 16))),
            float(angle), 0.0, 360.0, (float(shade),),
            thickness=-1, lineType=cv2.LINE_AA, shift=4,
        )  # fmt: skip
    chromatin = smooth_noise((side_px, side_px), scale_px=max(1.5, min(radii_px) / 2), rng=rng)
    result: Plane = plane.astype(np.float32) / 100 * (1 + 0.15 * chromatin)
    return result


def _fibres(
    side_px: int, *, mpp: float, angle_deg: float, rng: np.random.Generator
) -> Float32[np.ndarray, "row col"]:
    """Wavy strands along one direction, spread about 1."""
    big = int(side_px * 1.5) + 8
    strands = cv2.GaussianBlur(
        rng.standard_normal((big, big), dtype=np.float32),
        (0, 0), sigmaX=14 / mpp, sigmaY=0.9 / mpp, borderType=cv2.BORDER_REFLECT,
    )  # fmt: skip
    wave = smooth_noise((big, big), scale_px=30 / mpp, rng=rng) * (4 / mpp)
    x, y = np.meshgrid(np.arange(big, dtype=np.float32), np.arange(big, dtype=np.float32))
    turn = np.deg2rad(angle_deg)
    half = big / 2
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    from_x = cos * (x - half) + sin * (y - half) + half
    from_y = -sin * (x - half) + cos * (y - half) + half + wave
    turned = cv2.remap(strands, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    start = (big - side_px) // 2
    cut = turned[start : start + side_px, start : start + side_px]
    result: Plane = (cut / (cut.std() + 1e-6)).astype(np.float32)
    return result


def _both(haematoxylin: Plane, eosin: Plane) -> Stains:
    stacked: Stains = np.stack([haematoxylin, eosin], axis=2)
    return stacked


def _stroma(side_px: int, mpp: float, rng: np.random.Generator) -> Stains:
    angle = float(rng.uniform(0, 180))
    fibres = _fibres(side_px, mpp=mpp, angle_deg=angle, rng=rng)
    points = _scatter(side_px, spacing_px=24 / mpp, rng=rng)
    nuclei = _nuclei(
        points, side_px=side_px, radii_px=(6.5 / mpp, 1.7 / mpp), angle_deg=angle, rng=rng
    )
    return _both(0.05 + nuclei, np.clip(0.55 + 0.22 * fibres, 0.12, None))


def _tumour(side_px: int, mpp: float, rng: np.random.Generator) -> Stains:
    noise = smooth_noise((side_px, side_px), scale_px=8 / mpp, rng=rng)
    points = _scatter(side_px, spacing_px=10.5 / mpp, rng=rng)
    nuclei = _nuclei(
        points, side_px=side_px, radii_px=(4.2 / mpp, 3.4 / mpp), angle_deg=None, rng=rng
    )
    return _both(0.28 + 0.05 * noise + 0.9 * nuclei, 0.42 + 0.06 * noise)


def _lymphocytes(side_px: int, mpp: float, rng: np.random.Generator) -> Stains:
    noise = smooth_noise((side_px, side_px), scale_px=10 / mpp, rng=rng)
    points = _scatter(side_px, spacing_px=6.6 / mpp, rng=rng)
    kept = points[rng.random(len(points)) < 0.85]
    nuclei = _nuclei(
        kept, side_px=side_px, radii_px=(2.5 / mpp, 2.4 / mpp), angle_deg=None, rng=rng
    )
    return _both(0.10 + 1.35 * nuclei, 0.22 + 0.05 * noise)


def _necrosis(side_px: int, mpp: float, rng: np.random.Generator) -> Stains:
    clouds = smooth_noise((side_px, side_px), scale_px=16 / mpp, rng=rng)
    grains = smooth_noise((side_px, side_px), scale_px=2.5 / mpp, rng=rng)
    points = _scatter(side_px, spacing_px=9 / mpp, rng=rng)
    debris = _nuclei(
        points[rng.random(len(points)) < 0.6],
        side_px=side_px, radii_px=(1.1 / mpp, 0.8 / mpp), angle_deg=None, rng=rng,
    )  # fmt: skip
    return _both(0.06 + 0.7 * debris, np.clip(0.50 + 0.14 * clouds + 0.10 * grains, 0.1, None))


def _gland(side_px: int, mpp: float, rng: np.random.Generator) -> Stains:
    stains = _stroma(side_px, mpp, rng)
    x, y = np.meshgrid(np.arange(side_px, dtype=np.float32), np.arange(side_px, dtype=np.float32))
    wobble = smooth_noise((side_px, side_px), scale_px=14 / mpp, rng=rng)
    mucus = smooth_noise((side_px, side_px), scale_px=6 / mpp, rng=rng)
    for centre in _scatter(side_px, spacing_px=54 / mpp, rng=rng):
        outer_px = rng.uniform(20, 25) / mpp
        squash = rng.uniform(0.85, 1.2)
        distance = np.hypot((x - centre[0]) * squash, (y - centre[1]) / squash)
        depth = distance / outer_px + 0.06 * wobble
        stains[depth < 1] = (0.16, 0.40)
        angles = np.arange(0, 2 * np.pi, 4.6 / mpp / outer_px) + rng.uniform(0, 1)
        ring = 0.80 * outer_px * rng.uniform(0.94, 1.06, len(angles))
        points = centre + np.stack(
            [ring * np.cos(angles) / squash, ring * np.sin(angles) * squash], axis=1
        )
        nuclei = _nuclei(
            points, side_px=side_px, radii_px=(2.6 / mpp, 2.2 / mpp), angle_deg=None, rng=rng
        )
        stains[..., 0] = np.maximum(stains[..., 0], 1.05 * nuclei)
        lumen = depth < 0.48
        stains[lumen] = np.stack([0.03 + 0 * mucus, 0.05 + 0.03 * np.abs(mucus)], axis=2)[lumen]
    return stains


def _fat(side_px: int, mpp: float, rng: np.random.Generator) -> Stains:
    centres = _scatter(side_px, spacing_px=44 / mpp, rng=rng).astype(np.float32)
    x, y = np.meshgrid(np.arange(side_px, dtype=np.float32), np.arange(side_px, dtype=np.float32))
    distances = np.stack([np.hypot(x - cx, y - cy) for cx, cy in centres])
    nearest, second = np.partition(distances, 1, axis=0)[:2]
    membrane = np.clip(1.4 - (second - nearest) * mpp / 2.2, 0, 1)
    points = _scatter(side_px, spacing_px=60 / mpp, rng=rng)
    nuclei = _nuclei(
        points, side_px=side_px, radii_px=(3.5 / mpp, 1.2 / mpp), angle_deg=None, rng=rng
    )
    return _both(0.01 + 0.08 * membrane + nuclei * membrane, 0.02 + 0.5 * membrane)


_PAINTERS: dict[TissueType, Callable[[int, float, np.random.Generator], Stains]] = {
    "stroma": _stroma,
    "tumour": _tumour,
    "gland": _gland,
    "lymphocytes": _lymphocytes,
    "necrosis": _necrosis,
    "fat": _fat,
}
