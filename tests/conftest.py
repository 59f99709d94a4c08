"""Settings of the whole test run, and the slides that many tests read."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# as the program does before torch loads: threads that wait spinning starve a busy machine
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# a loaded machine is no reason to fail a property
settings.register_profile("gigassl", deadline=None)
settings.load_profile("gigassl")


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three small synthetic slides with tissue: alpha, beta, gamma (0.5 µm/px)."""
    from gigassl.slides.slide_files import save_image
    from gigassl.slides.synthetic import SyntheticSettings, paint_slide

    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate(("alpha", "beta", "gamma")):
        painted = paint_slide(SyntheticSettings(width_px=1344, height_px=1120, seed=seed))
        save_image(painted.image, folder / f"{name}.svs", mpp=0.5)
    return folder
