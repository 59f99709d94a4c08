import numpy as np
import pytest

from gigassl.errors import SettingsError
from gigassl.evaluate.vector_set import VectorSet


def test_vectors_with_nan_are_refused_with_the_slides_name() -> None:
    vectors = np.ones((3, 4))
    vectors[1, 2] = np.nan
    with pytest.raises(SettingsError, match=r"1 of 3 vectors hold NaN .* that of 'b'"):
        VectorSet(name="scm", slide_ids=("a", "b", "c"), vectors=vectors)


@pytest.mark.parametrize(
    ("slide_ids", "sentence"),
    [(("a", "b"), "2 slides and 3 vectors"), (("a", "b", "a"), "names a slide more than once")],
)
def test_slides_and_vectors_belong_together(slide_ids: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        VectorSet(name="scm", slide_ids=slide_ids, vectors=np.ones((3, 4)))
