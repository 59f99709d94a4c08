"""Memory stays bounded whatever the slide's size."""

import subprocess
import sys
from pathlib import Path

import pytest

from gigassl.slides.slide_files import save_tiled_slide

# an encoder that costs nothing and has the width of the bundled one: what is left is ours
MEASURE = """
import resource, sys
from pathlib import Path
import torch
from gigassl import EmbedSettings, TileEncoder, TileSettings, embed
from gigassl.tiles.engine import EngineSettings
from gigassl.tiles.records import EncoderRecord

class MeanColour(torch.nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3)).repeat(1, 427)[:, :1280] + 2.0

record = EncoderRecord(name="mean-colour", source="random", architecture="none", dim=1280)
encoder = TileEncoder(MeanColour(), record=record, settings=EngineSettings(batch_size=64))
def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
slides, out = Path(sys.argv[1]), Path(sys.argv[2])
embed(slides / "small.svs", out / "warm.parquet", encoder=encoder)
before = peak_mib()
result = embed(slides / "huge.svs", out / "v.parquet", encoder=encoder)
(row,) = result.table.rows()
print(row.n_tiles, peak_mib() - before)
"""


@pytest.mark.slow
def test_a_slide_of_ten_gigapixels_fits_in_two_gigabytes(tmp_path: Path) -> None:
    save_tiled_slide(tmp_path / "huge.svs", width_px=100_000, height_px=100_000, mpp=0.5)
    save_tiled_slide(tmp_path / "small.svs", width_px=4_000, height_px=4_000, mpp=0.5)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    n_tiles, more_mib = map(float, done.stdout.split())
    print(f"{n_tiles:.0f} tiles, {more_mib:.0f} MiB more than with a small slide")
    assert n_tiles > 100_000
    assert more_mib < 2048
