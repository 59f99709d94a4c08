"""Scores as an OME-TIFF that QuPath opens: one channel of float32 with its physical size."""

from pathlib import Path
from xml.sax.saxutils import quoteattr

import tifffile

from gigassl.errors import SlideError
from gigassl.files import written_whole
from gigassl.report.tile_map import TileMap

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def save_ome_overlay(tiles: TileMap, path: Path, *, channel: str) -> None:
    """Writes ``tiles.picture``: it covers the slide from its top-left corner; NaN where no tile is.

    Its physical pixel size says by how much it is smaller than the slide. The description is our
    own: the one that tifffile makes holds a random UUID, so equal maps would not give equal bytes.

    Args:
        tiles: scores and places.
        path: file to write, ending in ``.ome.tiff``.
        channel: name of the channel.

    Raises:
        SlideError: the µm/px of the slide is not known.
        MachineError: it cannot be written.
    """
    if tiles.mpp_l0 is None:
        raise SlideError(
            "an OME-TIFF needs the µm/px of the slide; give it in the cohort table (column mpp) or "
            "as --slide-mpp",
            stage="resolution",
        )
    um_per_px = tiles.mpp_l0 * tiles.l0_per_px
    with written_whole(path) as part:
        tifffile.imwrite(
            part, tiles.picture, tile=(256, 256), compression="zlib", photometric="minisblack",
            description=_description(tiles, channel=channel, um_per_px=um_per_px), metadata=None,
            resolution=(1e4 / um_per_px, 1e4 / um_per_px), resolutionunit="CENTIMETER",
            software=False,
        )  # fmt: skip


def _description(tiles: TileMap, *, channel: str, um_per_px: float) -> str:
    rows, cols = tiles.picture.shape
    size = f'PhysicalSizeX="{um_per_px:.9g}" PhysicalSizeXUnit="&#181;m" '
    size += f'PhysicalSizeY="{um_per_px:.9g}" PhysicalSizeYUnit="&#181;m"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{_SCHEMA}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_SCHEMA} {_SCHEMA}/ome.xsd" Creator="gigassl">'
        f'<Image ID="Image:0" Name={_ascii(quoteattr(tiles.slide_id))}>'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="float" BigEndian="false" '
        f'SizeX="{cols}" SizeY="{rows}" SizeC="1" SizeZ="1" SizeT="1" {size}>'
        f'<Channel ID="Channel:0:0" Name={_ascii(quoteattr(channel))} SamplesPerPixel="1"/>'
        '<TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )


def _ascii(text: str) -> str:
    # the tag of a TIFF holds ASCII; XML can say any letter in it
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")
