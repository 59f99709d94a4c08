from hypothesis import given
from hypothesis import strategies as st

from gigassl.units import l0_from_px, l0_from_um, um_from_l0

mpps = st.floats(0.05, 10)


@given(length=st.floats(0, 1e6), mpp_l0=mpps)
def test_there_and_back(length: float, mpp_l0: float) -> None:
    assert abs(l0_from_um(um_from_l0(length, mpp_l0=mpp_l0), mpp_l0=mpp_l0) - length) < 1e-3


@given(size=st.floats(1, 4096), mpp=mpps, mpp_l0=mpps)
def test_pixels_and_micrometres_agree(size: float, mpp: float, mpp_l0: float) -> None:
    via_um = l0_from_um(size * mpp, mpp_l0=mpp_l0)
    assert abs(l0_from_px(size, mpp=mpp, mpp_l0=mpp_l0) - via_um) <= 1e-9 * via_um
