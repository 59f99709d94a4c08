"""Pickled PCAs: read as scikit-learn applies them; whatever else a pickle can hold is refused."""

import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA, TruncatedSVD

from gigassl.bags.pca_pickle import read_pca
from gigassl.bags.reduction import Reduction
from gigassl.errors import SettingsError

PROTOCOLS = (2, 3, 4, 5)
N_COLUMNS = 12


def features(dtype: Any = np.float64) -> np.ndarray:
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(N_COLUMNS, N_COLUMNS))
    return (generator.normal(size=(80, N_COLUMNS)) @ mixing + 5).astype(dtype)


def fitted(**options: Any) -> Any:
    return PCA(n_components=4, **options).fit(features())


def read(tmp_path: Path, content: bytes) -> Reduction:
    path = tmp_path / "pca.pkl"
    path.write_bytes(content)
    return read_pca(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_reduces_as_scikit_learn_does(
    tmp_path: Path, protocol: int, whiten: bool, dtype: Any
) -> None:
    x = features(dtype)
    pca = PCA(n_components=4, whiten=whiten, random_state=0).fit(x)
    found = read(tmp_path, pickle.dumps(pca, protocol=protocol)).apply(x)
    np.testing.assert_allclose(found, pca.transform(x), rtol=1e-4, atol=1e-4)


def test_directions_without_variance_are_not_blown_up(tmp_path: Path) -> None:
    x = features()
    x[:, 1:] = x[:, :1]
    pca = PCA(n_components=4, whiten=True).fit(x)
    reduction = read(tmp_path, pickle.dumps(pca))
    scale = np.maximum(np.sqrt(pca.explained_variance_), np.finfo(np.float64).eps)
    np.testing.assert_allclose(reduction.components, pca.components_ / scale[:, None], rtol=1e-5)


def test_names_of_older_versions_are_known(tmp_path: Path) -> None:
    content = pickle.dumps(fitted(), protocol=2)
    older = content.replace(b"sklearn.decomposition._pca", b"sklearn.decomposition.pca").replace(
        b"numpy._core", b"numpy.core"
    )
    assert older != content
    np.testing.assert_array_equal(
        read(tmp_path, older).components, read(tmp_path, content).components
    )


def test_arrays_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    pca = fitted()
    expected = pca.components_.astype(np.float32)
    pca.components_ = pca.components_.astype(">f8")
    np.testing.assert_array_equal(read(tmp_path, pickle.dumps(pca)).components, expected)


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


def with_attribute(value: Any) -> Any:
    pca = fitted()
    pca.extra_ = value
    return pca


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "os.system": (lambda: Calls(os.system, "touch trace"), "posix.system"),
    "eval": (lambda: Calls(eval, "open('trace', 'w')"), "(?:builtins|__builtin__).eval"),
    "getattr": (lambda: Calls(getattr, fitted(), "fit"), "(?:builtins|__builtin__).getattr"),
    "numpy.load": (lambda: Calls(np.load, "trace"), "numpy.load"),
    "subprocess": (lambda: Calls(subprocess.Popen, "trace"), "(?:subprocess|commands).Popen"),
    "open": (lambda: Calls(open, "trace", "w"), r"_?io.open"),
    "attribute": (lambda: with_attribute(Calls(os.system, "touch trace")), "posix.system"),
    "deep attribute": (lambda: with_attribute([{"a": (Calls(open, "trace", "w"),)}]), r"_?io.open"),
    "random state": (lambda: fitted(random_state=np.random.RandomState(0)), "numpy.random"),
    "other class": (
        lambda: TruncatedSVD(3).fit(features()),
        "sklearn.decomposition._truncated_svd",
    ),
    "path": (lambda: Path("trace"), "pathlib"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_what_a_pca_does_not_need_is_refused_by_name_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    make, name = HOSTILE[kind]
    content = pickle.dumps(make(), protocol=protocol)
    with pytest.raises(SettingsError, match=rf"names '(?:{name}).*nothing of the file was run"):
        read(tmp_path, content)
    assert not (tmp_path / "trace").exists()


def test_the_trap_of_these_tests_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(with_attribute(Calls(os.system, "touch trace"))))
    assert (tmp_path / "trace").exists()


RAW: dict[str, bytes] = {
    "empty": b"",
    "no pickle": b"P5 3 3 255",
    "protocol 0": pickle.dumps([1], protocol=0),
    "a number": pickle.dumps(3),
    "a list": pickle.dumps([1, 2]),
    "a bare class": b"\x80\x02csklearn.decomposition._pca\nPCA\n.",
    "stack runs empty": b"\x80\x02R.",
    "mark runs empty": b"\x80\x02t.",
    "unknown memo": b"\x80\x02h\x07.",
    "state of a class": b"\x80\x02csklearn.decomposition._pca\nPCA\n}b.",
    "call of a value": b"\x80\x02K\x01)R.",
    "deeply nested": b"\x80\x02)" + b"\x85" * 50_000 + b".",
    "endless": b"\x80\x02" + b"N" * 1_000_000 + b".",
    "bytes that are not there": b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b"x.",
    "memo of two billion": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "persistent id": b"\x80\x02K\x01Q.",
    "extension": b"\x80\x02\x82\x01.",
}


@pytest.mark.parametrize("kind", RAW)
def test_broken_and_exploding_pickles_are_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SettingsError, match="is not a pickled scikit-learn PCA"):
        read(tmp_path, RAW[kind])


def test_keys_that_take_exponential_time_to_hash_are_never_hashed(tmp_path: Path) -> None:
    # each a pair of the one before: the last has 2**60 leaves
    pairs = b"".join(b"h%ch%c\x86\x94" % (number, number) for number in range(60))
    with pytest.raises(SettingsError, match="a tuple stands where a str belongs"):
        read(tmp_path, b"\x80\x04}N\x94" + pairs + b"Ns.")


def changed(**attributes: Any) -> Any:
    pca = fitted()
    vars(pca).update(attributes)
    return pca


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "never fitted": (lambda: PCA(3), "never fitted"),
    "not finite": (lambda: changed(mean_=np.full(N_COLUMNS, np.nan)), "not finite"),
    "too large": (lambda: changed(mean_=np.full(N_COLUMNS, 1e300)), "not finite"),
    "negative variance": (
        lambda: changed(whiten=True, explained_variance_=np.full(4, -1.0)), "not finite"
    ),
    "other length": (lambda: changed(mean_=np.zeros(3)), r"mean \(3,\) does not fit"),
    "integers": (lambda: changed(mean_=np.zeros(N_COLUMNS, dtype=int)), "float32 or float64"),
    "objects": (
        lambda: changed(mean_=np.array([None] * N_COLUMNS)), "bytes-like object is required"
    ),
    "whiten": (lambda: changed(whiten=1), "int stands where a bool"),
    "no array": (lambda: changed(components_=[[1.0]]), "list stands where a Call"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_pca_that_cannot_be_applied_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    make, reason = WRONG[kind]
    with pytest.raises(SettingsError, match=reason):
        read(tmp_path, pickle.dumps(make()))


@given(data=st.data())
def test_no_damage_gives_anything_but_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(pickle.dumps(fitted(), protocol=data.draw(st.sampled_from(PROTOCOLS))))
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(places)
    folder = tmp_path_factory.mktemp("damaged")
    for damaged in (bytes(content), bytes(content[:cut])):
        try:
            reduction = read(folder, damaged)
        except SettingsError:
            continue
        assert np.isfinite(reduction.components).all()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no PCA at .*gone\.pkl"):
        read_pca(tmp_path / "gone.pkl")


def test_a_file_larger_than_any_pca_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.pkl"
    with path.open("wb") as handle:
        handle.truncate(2**29 + 1)  # a hole: takes no room on the disk
    with pytest.raises(SettingsError, match="larger than any PCA"):
        read_pca(path)
