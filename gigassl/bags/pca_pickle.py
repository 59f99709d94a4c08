"""PCA files of scikit-learn: read off the pickle's instructions, none of which is carried out.

Giga-SSL publishes its PCA of wide tile features as a pickled scikit-learn object. Unpickling runs
whatever the file says; even with the classes restricted, arrays would be rebuilt by code that
trusts the file. So the instructions are parsed, calls are only written down, and the arrays are
read out of what was written down. A file that names anything a PCA does not need is refused.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from gigassl.bags.reduction import Reduction
from gigassl.errors import SettingsError

_MAX_BYTES = 2**29  # a square PCA of 4096 columns has 2**27
_MAX_INSTRUCTIONS = 100_000  # a PCA has some 300

_CLASSES = ("sklearn.decomposition._pca.PCA", "sklearn.decomposition.pca.PCA")
_FRESH_ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_BUFFERS = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_BYTES = "_codecs.encode"  # how protocols below 3 write bytes
_NAMES = {*_CLASSES, *_FRESH_ARRAYS, *_BUFFERS, *_SCALARS, _BYTES, "numpy.ndarray", "numpy.dtype"}


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
        return _reduction(_Transcript().read(path.read_bytes()))
    except _NotAdmittedError as error:
        raise SettingsError(
            f"{path} names {error}, which a PCA does not need; nothing of the file was run. "
            "Pickle the fitted sklearn.decomposition.PCA itself (pickle.dump, not joblib; with "
            "random_state None or a number)"
        ) from error
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise SettingsError(
            f"{path} is not a pickled scikit-learn PCA (protocol 2 to 5): {error}"
        ) from error


class _NotAdmittedError(Exception):
    """The file names something that is not on the list."""


@dataclass(frozen=True)
class _Name:
    """A class or function that the file names; only ever the text."""

    text: str


@dataclass(kw_only=True, eq=False)
class _Call:
    """What the file would have called: by name, with what, and the state set afterwards."""

    name: str
    args: tuple[Any, ...]
    state: Any = None


@dataclass(kw_only=True, eq=False)
class _Transcript:
    """The stack machine of pickle in which a call makes a note of itself."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def read(self, content: bytes) -> Any:
        """The value that the instructions end with."""
        for number, (instruction, argument, _) in enumerate(pickletools.genops(content)):
            if number > _MAX_INSTRUCTIONS:
                raise ValueError(f"it has more than {_MAX_INSTRUCTIONS:,} instructions")
            if instruction.name in _LITERALS:
                self.stack.append(argument)
            elif instruction.name in _ACTIONS:
                _ACTIONS[instruction.name](self, argument)
            else:
                raise ValueError(f"it holds the instruction {instruction.name}")
        return self.stack.pop()

    def pop(self, count: int) -> tuple[Any, ...]:
        """The last values of the stack."""
        if len(self.stack) < count:
            raise ValueError("its stack runs empty")
        start = len(self.stack) - count
        taken = tuple(self.stack[start:])
        del self.stack[start:]
        return taken

    def pop_marked(self) -> tuple[Any, ...]:
        """The values since the last mark."""
        return self.pop(len(self.stack) - self.marks.pop())

    def put(self, key: int | None) -> None:
        """Remembers the last value under a number."""
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def name(self, text: str) -> None:
        """Admits a class or function by its name."""
        if text not in _NAMES:
            raise _NotAdmittedError(f"'{text[:200]}'")
        self.stack.append(_Name(text))

    def stacked_name(self) -> None:
        """Admits the module and name on the stack."""
        module, name = self.pop(2)
        self.name(f"{_checked(module, str)}.{_checked(name, str)}")

    def call(self) -> None:
        """Notes a call."""
        what, args = self.pop(2)
        self.stack.append(_Call(name=_checked(what, _Name).text, args=_checked(args, tuple)))

    def build(self) -> None:
        """Notes the state that an object is given."""
        (state,) = self.pop(1)
        _checked(self.stack[-1], _Call).state = state

    def set_items(self, items: tuple[Any, ...]) -> None:
        """Adds keys and values to the dictionary below them."""
        # keys are text: to hash nested tuples, as hostile files have them, takes exponential time
        keys = [_checked(key, str) for key in items[::2]]
        _checked(self.stack[-1], dict).update(zip(keys, items[1::2], strict=True))

    def extend(self, items: tuple[Any, ...]) -> None:
        """Adds values to the list below them."""
        _checked(self.stack[-1], list).extend(items)


_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_ACTIONS: Mapping[str, Callable[[_Transcript, Any], None]] = {
    "PROTO": lambda _transcript, _version: None,
    "FRAME": lambda _transcript, _length: None,
    "STOP": lambda _transcript, _: None,
    "NONE": lambda transcript, _: transcript.stack.append(None),
    "NEWTRUE": lambda transcript, _: transcript.stack.append(True),
    "NEWFALSE": lambda transcript, _: transcript.stack.append(False),
    "EMPTY_DICT": lambda transcript, _: transcript.stack.append({}),
    "EMPTY_LIST": lambda transcript, _: transcript.stack.append([]),
    "EMPTY_TUPLE": lambda transcript, _: transcript.stack.append(()),
    "TUPLE1": lambda transcript, _: transcript.stack.append(transcript.pop(1)),
    "TUPLE2": lambda transcript, _: transcript.stack.append(transcript.pop(2)),
    "TUPLE3": lambda transcript, _: transcript.stack.append(transcript.pop(3)),
    "TUPLE": lambda transcript, _: transcript.stack.append(transcript.pop_marked()),
    "MARK": lambda transcript, _: transcript.marks.append(len(transcript.stack)),
    "MEMOIZE": lambda transcript, _: transcript.put(None),
    "BINPUT": lambda transcript, key: transcript.put(key),
    "LONG_BINPUT": lambda transcript, key: transcript.put(key),
    "BINGET": lambda transcript, key: transcript.stack.append(transcript.memo[key]),
    "LONG_BINGET": lambda transcript, key: transcript.stack.append(transcript.memo[key]),
    "SETITEM": lambda transcript, _: transcript.set_items(transcript.pop(2)),
    "SETITEMS": lambda transcript, _: transcript.set_items(transcript.pop_marked()),
    "APPEND": lambda transcript, _: transcript.extend(transcript.pop(1)),
    "APPENDS": lambda transcript, _: transcript.extend(transcript.pop_marked()),
    "GLOBAL": lambda transcript, names: transcript.name(names.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda transcript, _: transcript.stacked_name(),
    "REDUCE": lambda transcript, _: transcript.call(),
    "NEWOBJ": lambda transcript, _: transcript.call(),
    "BUILD": lambda transcript, _: transcript.build(),
}
"""The instructions that pickled PCAs have; any other refuses the file."""


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} stands where a {kind.__name__} belongs")
    return value


def _reduction(found: Any) -> Reduction:
    pca = _checked(found, _Call)
    if pca.name not in _CLASSES:
        raise ValueError(f"it holds a {pca.name}")
    state = _checked(pca.state, dict)
    if "components_" not in state:
        raise ValueError("it was never fitted")
    mean, components = _array(state["mean_"]), _array(state["components_"])
    # what overflows or has no root is refused below
    with np.errstate(invalid="ignore", over="ignore"):
        if _checked(state["whiten"], bool):
            scale = np.sqrt(_array(state["explained_variance_"]))
            # as scikit-learn divides: directions without variance are not blown up
            components = components / np.maximum(scale, np.finfo(scale.dtype).eps)[:, None]
        mean, components = mean.astype(np.float32), components.astype(np.float32)
    if components.ndim != 2 or mean.shape != components.shape[1:]:
        raise ValueError(f"its mean {mean.shape} does not fit its components {components.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(components).all()):
        raise ValueError("it holds values that are not finite")
    return Reduction(mean=mean, components=components)


def _array(value: Any) -> Float[np.ndarray, "..."]:
    call = _checked(value, _Call)
    if call.name in _BUFFERS:
        raw, dtype, shape, order = call.args
    elif call.name in _FRESH_ARRAYS:
        _, shape, dtype, is_fortran, raw = _checked(call.state, tuple)
        order = "F" if is_fortran else "C"
    else:
        raise ValueError(f"a {call.name} stands where an array belongs")
    sides = [_checked(side, int) for side in _checked(shape, tuple)]
    if min(sides, default=0) < 0 or order not in ("C", "F"):
        raise ValueError(f"an array has the shape {tuple(sides)}")
    values = np.frombuffer(_bytes(raw), dtype=_dtype(dtype)).reshape(sides, order=order)
    return values.astype(values.dtype.newbyteorder("="))


def _dtype(value: Any) -> np.dtype[Any]:
    call = _checked(value, _Call)
    kind = call.args[0] if call.args else None
    if call.name != "numpy.dtype" or kind not in ("f4", "f8"):
        raise ValueError("an array is not of float32 or float64")
    byte_order = _checked(call.state, tuple)[1]
    if byte_order not in ("<", ">"):
        raise ValueError("an array does not say its byte order")
    return np.dtype(f"{byte_order}{kind}")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, _Call):
        return bytes(memoryview(value))
    text, encoding = value.args
    if value.name != _BYTES or encoding != "latin1":
        raise ValueError(f"a {value.name} stands where the values of an array belong")
    return bytes(_checked(text, str).encode("latin1"))
