"""Pickles parsed, never run: what a file would have called is written down, and read from that.

Unpickling runs whatever the file says; even with the classes restricted, arrays would be rebuilt by
code that trusts the file. Here the instructions are parsed, calls are only noted, and arrays are
read out of the notes. A file that names anything that was not admitted is refused.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Shaped

FRESH_ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
BUFFERS = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
BYTES = "_codecs.encode"  # how protocols below 3 write bytes
ARRAY_NAMES = frozenset({*FRESH_ARRAYS, *BUFFERS, *SCALARS, BYTES, "numpy.ndarray", "numpy.dtype"})
"""What a pickle of numpy arrays names."""
_SAID = {"f2": "float16", "f4": "float32", "f8": "float64", "U": "text", "S": "bytes"}


class NotAdmittedError(Exception):
    """The file names something that is not on the list."""


@dataclass(frozen=True)
class Name:
    """A class or function that the file names; only ever the text."""

    text: str


@dataclass(kw_only=True, eq=False)
class Call:
    """What the file would have called: by name, with what, and the state set afterwards."""

    name: str
    args: tuple[Any, ...]
    state: Any = None


def parsed_pickle(
    content: bytes, *, admitted: frozenset[str] = ARRAY_NAMES, most: int = 100_000
) -> Any:
    """The value that a pickle (protocol 2 to 5) ends with; what it would call is a ``Call``.

    Args:
        content: the file.
        admitted: full names that it may name.
        most: instructions that it may have.

    Raises:
        NotAdmittedError: it names something else.
        ValueError, LookupError, TypeError, OverflowError: it is no such pickle.
    """
    return _Transcript(admitted=admitted, most=most).read(content)


def checked(value: Any, kind: type) -> Any:
    """The value, if it is of that kind.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} stands where a {kind.__name__} belongs")
    return value


def array_of(value: Any, *, kinds: tuple[str, ...] = ("f4", "f8")) -> Shaped[np.ndarray, "..."]:
    """The array that a call would have made, in the machine's own byte order.

    Args:
        value: what was parsed.
        kinds: beginnings of the types that are wanted, as numpy writes them ("f4", "U").

    Raises:
        ValueError, TypeError: another call, or an array of another type.
    """
    call = checked(value, Call)
    if call.name in BUFFERS:
        raw, dtype, shape, order = call.args
    elif call.name in FRESH_ARRAYS:
        _, shape, dtype, is_fortran, raw = checked(call.state, tuple)
        order = "F" if is_fortran else "C"
    else:
        raise ValueError(f"a {call.name} stands where an array belongs")
    sides = [checked(side, int) for side in checked(shape, tuple)]
    if min(sides, default=0) < 0 or order not in ("C", "F"):
        raise ValueError(f"an array has the shape {tuple(sides)}")
    values = np.frombuffer(_bytes(raw), dtype=_dtype(dtype, kinds)).reshape(sides, order=order)
    return values.astype(values.dtype.newbyteorder("="))


def texts_of(value: Any) -> list[str]:
    """A list, tuple or array of texts, whether of Python's or of numpy's.

    Raises:
        ValueError, TypeError: something else stands among them.
    """
    if isinstance(value, (list, tuple)):
        return [_text(item) for item in value]
    call = checked(value, Call)
    if call.name in FRESH_ARRAYS:
        _, _, dtype, _, raw = checked(call.state, tuple)
        if str(checked(dtype, Call).args[0]).startswith("O"):
            return [_text(item) for item in checked(raw, list)]
    found = array_of(call, kinds=("U", "S")).ravel().tolist()
    return [_text(item) for item in found]


def _text(value: Any) -> str:
    if isinstance(value, Call) and value.name in SCALARS:
        dtype, raw = value.args
        value = np.frombuffer(_bytes(raw), dtype=_dtype(dtype, ("U", "S")))[0].item()
    if isinstance(value, bytes):
        value = value.decode()
    return str(checked(value, str))


def _dtype(value: Any, kinds: tuple[str, ...]) -> np.dtype[Any]:
    call = checked(value, Call)
    kind = str(call.args[0]) if call.args else ""
    if call.name != "numpy.dtype" or not kind.startswith(kinds):
        wanted = " or ".join(_SAID.get(each, each) for each in kinds)
        raise ValueError(f"an array is not of {wanted}, but of '{kind}'")
    byte_order = checked(call.state, tuple)[1]
    if kind.startswith("S"):
        return np.dtype(kind)
    if byte_order not in ("<", ">"):
        raise ValueError("an array does not say its byte order")
    return np.dtype(f"{byte_order}{kind}")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, Call):
        return bytes(memoryview(value))
    text, encoding = value.args
    if value.name != BYTES or encoding != "latin1":
        raise ValueError(f"a {value.name} stands where the values of an array belong")
    return bytes(checked(text, str).encode("latin1"))


@dataclass(kw_only=True, eq=False)
class _Transcript:
    """The stack machine of pickle in which a call makes a note of itself."""

    admitted: frozenset[str]
    most: int
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def read(self, content: bytes) -> Any:
        """The value that the instructions end with."""
        for number, (instruction, argument, _) in enumerate(pickletools.genops(content)):
            if number > self.most:
                raise ValueError(f"it has more than {self.most:,} instructions")
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
        if text not in self.admitted:
            raise NotAdmittedError(f"'{text[:200]}'")
        self.stack.append(Name(text))

    def stacked_name(self) -> None:
        """Admits the module and name on the stack."""
        module, name = self.pop(2)
        self.name(f"{checked(module, str)}.{checked(name, str)}")

    def call(self) -> None:
        """Notes a call."""
        what, args = self.pop(2)
        self.stack.append(Call(name=checked(what, Name).text, args=checked(args, tuple)))

    def build(self) -> None:
        """Notes the state that an object is given."""
        (state,) = self.pop(1)
        checked(self.stack[-1], Call).state = state

    def set_items(self, items: tuple[Any, ...]) -> None:
        """Adds keys and values to the dictionary below them."""
        # keys are text: to hash nested tuples, as hostile files have them, takes exponential time
        keys = [checked(key, str) for key in items[::2]]
        checked(self.stack[-1], dict).update(zip(keys, items[1::2], strict=True))

    def extend(self, items: tuple[Any, ...]) -> None:
        """Adds values to the list below them."""
        checked(self.stack[-1], list).extend(items)


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
"""The instructions that pickles of arrays have; any other refuses the file."""
