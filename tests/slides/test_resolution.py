import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SlideError
from gigassl.slides.resolution import find_resolution


def test_the_cohort_comes_before_the_file_and_the_file_before_the_option() -> None:
    in_file = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}
    cohort = find_resolution(in_file, cohort_mpp=0.3, default_mpp=0.7)
    assert (cohort.mpp, cohort.source) == (0.3, "cohort")
    file = find_resolution(in_file, default_mpp=0.7)
    assert (file.mpp, file.source) == (0.25, "file:mpp")
    option = find_resolution({}, default_mpp=0.7)
    assert (option.mpp, option.source) == (0.7, "option")


def test_objective_power_and_tiff_tags_stand_in_for_a_missing_mpp() -> None:
    power = find_resolution({"openslide.objective-power": "40"})
    assert (power.mpp, power.source) == (0.25, "file:objective-power")
    tags = {
        "tiff.XResolution": "20000",
        "tiff.YResolution": "20000",
        "tiff.ResolutionUnit": "centimeter",
    }
    found = find_resolution(tags)
    assert (found.mpp, found.source) == (0.5, "file:tiff-resolution")
    generic = {
        "openslide.vendor": "generic-tiff",
        "openslide.mpp-x": "0.5",
        "openslide.mpp-y": "0.5",
    }
    assert find_resolution(generic).source == "file:tiff-resolution"


def test_a_screens_resolution_tags_are_no_resolution() -> None:
    tags = {"tiff.XResolution": "72", "tiff.YResolution": "72", "tiff.ResolutionUnit": "inch"}
    assert find_resolution(tags, default_mpp=0.5).source == "option"
    with pytest.raises(SlideError, match=r"no microns-per-pixel .* --slide-mpp .* 'mpp' column"):
        find_resolution(tags)


@pytest.mark.parametrize("mpp", ["352.78", "0.001", "0", "-1", "nan", "inf"])
def test_an_absurd_resolution_is_refused_with_its_value(mpp: str) -> None:
    properties = {"openslide.mpp-x": mpp, "openslide.mpp-y": mpp}
    with pytest.raises(SlideError, match=f"{float(mpp):.5g} µm/px.*overrides") as caught:
        find_resolution(properties, default_mpp=0.5)
    assert caught.value.stage == "resolution"
    assert find_resolution(properties, cohort_mpp=0.5).mpp == 0.5


def test_pixels_that_are_not_square_are_refused_with_both_values() -> None:
    with pytest.raises(SlideError, match=r"not square: 0\.5 × 0\.6 "):
        find_resolution({"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.6"})


@given(mpp=st.floats(0.05, 9.0), stretch=st.floats(1.0, 1.049))
def test_a_slight_difference_between_x_and_y_is_averaged(mpp: float, stretch: float) -> None:
    properties = {"openslide.mpp-x": repr(mpp), "openslide.mpp-y": repr(mpp * stretch)}
    assert mpp * 0.999999 <= find_resolution(properties).mpp <= mpp * stretch * 1.000001
