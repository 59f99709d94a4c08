"""PCA files of scikit-learn: read off the pickle's instructions, none of which is carried out.

Giga-SSL publishes its PCA of wide tile features as a pickled scikit-learn object. A file that names
anything a PCA does not need is refused.
"""

from pathlib import Path
from typing import Any

import numpy as np

from gigassl.bags.pickle_parsing import (
    ARRAY_NAMES,
    Call,
    NotAdmittedError,
    array_of,
    checked,
    parsed_pickle,
)
from gigassl.bags.reduction import Reduction
from gigassl.errors import SettingsError

_MAX_BYTES = 2**29  # a square PCA of 4096 columns has 2**27
_CLASSES = ("sklearn.decomposition._pca.PCA", "sklearn.decomposition.pca.PCA")


def read_pca(path: Path) -> Reduction:
    """The reduction that a pickled scikit-learn ``PCA`` computes in ``transform``.

    Pickle protocols 2 to 5. Whitening, where it was on, goes into the components.

    Raises:
        SettingsError: no such file, not such a pickle, or one that holds anything else.
    """
    if not path.is_file():
        raise SettingsError(f"no PCA at {path}; give the path of a pickled scikit-learn PCA")
    if path.stat().st_size > _MAX_BYTES:
        raise SettingsError(f"{path} is larger than any PCA ({_MAX_BYTES:,} bytes); not read")
    try:
        return _reduction(parsed_pickle(path.read_bytes(), admitted=ARRAY_NAMES.union(_CLASSES)))
    except NotAdmittedError as error:
        raise SettingsError(
            f"{path} names {error}, which a PCA does not need; nothing of the file was run. "
            "Pickle the fitted sklearn.decomposition.PCA itself (pickle.dump, not joblib; with "
            "random_state None or a number)"
        ) from error
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise SettingsError(
            f"{path} is not a pickled scikit-learn PCA (protocol 2 to 5): {error}"
        ) from error


def _reduction(found: Any) -> Reduction:
    pca = checked(found, Call)
    if pca.name not in _CLASSES:
        raise ValueError(f"it holds a {pca.name}")
    state = checked(pca.state, dict)
    if "components_" not in state:
        raise ValueError("it was never fitted")
    mean, components = array_of(state["mean_"]), array_of(state["components_"])
    # what overflows or has no root is refused below
    with np.errstate(invalid="ignore", over="ignore"):
        if checked(state["whiten"], bool):
            scale = np.sqrt(array_of(state["explained_variance_"]))
            # as scikit-learn divides: directions without variance are not blown up
            components = components / np.maximum(scale, np.finfo(scale.dtype).eps)[:, None]
        mean, components = mean.astype(np.float32), components.astype(np.float32)
    if components.ndim != 2 or mean.shape != components.shape[1:]:
        raise ValueError(f"its mean {mean.shape} does not fit its components {components.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(components).all()):
        raise ValueError("it holds values that are not finite")
    return Reduction(mean=mean, components=components)
