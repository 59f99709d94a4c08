import numpy as np
import pytest

from gigassl.errors import SettingsError
from gigassl.evaluate.split import Split


def test_a_split_without_validation_rows() -> None:
    split = Split(scheme="patient-kfold", train=np.array([0, 1]), test=np.array([2]))
    assert len(split.val) == 0
    assert split.train_size == "full"


@pytest.mark.parametrize(
    ("sides", "sentence"),
    [
        ({"train": [], "test": [1]}, "split 3 .* has an empty train set"),
        ({"train": [1], "test": []}, "split 3 .* has an empty test set"),
        ({"train": [1, 2], "test": [2]}, "split 3 .* names a slide twice"),
        ({"train": [1], "test": [2], "val": [1]}, "names a slide twice"),
        ({"train": [1], "test": [2, 2]}, "names a slide twice"),
    ],
)
def test_a_split_that_cannot_be_is_refused(sides: dict[str, list[int]], sentence: str) -> None:
    train, test, val = (np.array(sides.get(s, []), np.int64) for s in ("train", "test", "val"))
    with pytest.raises(SettingsError, match=sentence):
        Split(scheme="holdout", fold=3, train=train, test=test, val=val)
