"""What lies on real slides besides tissue: pen marks, black borders, cover-slip edges, dust."""

from typing import Literal, get_args

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

PenColour = Literal["green", "blue", "black", "red"]
PEN_COLOURS: tuple[PenColour, ...] = get_args(PenColour)

_INK_RGB: dict[PenColour, tuple[int, int, int]] = {
    "green": (40, 130, 80),
    "blue": (45, 65, 165),
    "black": (38, 36, 40),
    "red": (205, 40, 50),
}


def draw_pen(
    image: UInt8[np.ndarray, "row col 3"], colour: PenColour, *, rng: np.random.Generator
) -> Bool[np.ndarray, "row col"]:
    """Draws a shaky felt-pen arc around the middle, in place; True where ink lies."""
    height, width = image.shape[:2]
    angles = np.linspace(0, rng.uniform(3.2, 4.8), 60) + rng.uniform(0, 2 * np.pi)
    shake = 1 + 0.02 * np.cumsum(rng.standard_normal(60)).clip(-3, 3)
    points = np.stack(
        [
            width / 2 + 0.45 * width * shake * np.cos(angles),
            height / 2 + 0.45 * height * shake * np.sin(angles),
        ],
        axis=1,
    )
    stroke = np.zeros((height, width), dtype=np.uint8)
    thickness = max(3, round(min(height, width) * 0.035))
    line = np.rint(points).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(stroke, [line], isClosed=False, color=255, thickness=thickness)
    ink = cv2.GaussianBlur(stroke, (0, 0), sigmaX=2.0).astype(np.float32) / 255 * 0.93
    pen = np.empty_like(image)
    pen[:] = _INK_RGB[colour]
    image[:] = cv2.blendLinear(pen, image, ink, 1 - ink)
    return np.asarray(ink > 0.2)


def draw_black_border(
    image: UInt8[np.ndarray, "row col 3"], *, share: float = 0.06
) -> Bool[np.ndarray, "row col"]:
    """Blackens a frame of ``share`` of the shorter side (three times that at the left), in place.

    Returns:
        True where the frame lies.
    """
    height, width = image.shape[:2]
    frame_px = max(1, round(min(height, width) * share))
    hidden = np.ones((height, width), dtype=bool)
    hidden[frame_px : height - frame_px, 3 * frame_px : width - frame_px] = False
    image[hidden] = (3, 3, 4)
    return hidden


def draw_glass_edge(
    image: UInt8[np.ndarray, "row col 3"], *, mpp: float, rng: np.random.Generator
) -> None:
    """Darkens a soft grey band with a sharp line, like the edge of a cover slip, in place."""
    height, width = image.shape[:2]
    at_px = rng.uniform(0.03, 0.07) * width
    slant = rng.uniform(-0.02, 0.02)
    distance_um = (np.arange(width)[None, :] - at_px - slant * np.arange(height)[:, None]) * mpp
    shade = 1 - 0.35 * np.exp(-np.abs(distance_um) / 40) - 0.25 * (np.abs(distance_um) < 6)
    for channel in range(3):
        image[..., channel] = (image[..., channel] * shade.astype(np.float32)).astype(np.uint8)


def draw_dust(
    image: UInt8[np.ndarray, "row col 3"], *, mpp: float, rng: np.random.Generator
) -> None:
    """Strews grey and brown specks of 10 to 60 µm over the slide, in place."""
    height, width = image.shape[:2]
    for _ in range(60):
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        axes = tuple(max(1, round(float(a) / mpp)) for a in rng.uniform(5, 30, 2))
        grey = float(rng.uniform(50, 170))
        colour = (grey, grey * 0.97, grey * 0.93)
        cv2.ellipse(
            image, centre, axes, float(rng.uniform(0, 180)), 0.0, 360.0, colour,
            thickness=-1, lineType=cv2.LINE_AA,
        )  # fmt: skip
