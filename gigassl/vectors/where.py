"""Where: a small language that says which rows of a table are meant, read without running it.

``project == 'LUAD' and n_tiles > 100``: columns compared with texts in quotes, numbers or null,
joined by ``and``, ``or``, ``not`` and parentheses; ``stage in ('I', 'II')``; ``grade is not null``.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn, cast

from gigassl.errors import SettingsError

Value = str | float | None
Operator = Literal["==", "!=", "<", "<=", ">", ">="]

MOST_LETTERS, MOST_NESTED = 10_000, 50

_NAME = re.compile(r"[^\W\d][\w.]*")
_WORDS = ("and", "or", "not", "in", "is", "null")
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![\w.]))
    |(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    |(?P<column>`(?:[^`]|``)+`)
    |(?P<name>[^\W\d][\w.]*)
    |(?P<operator>==|!=|<>|<=|>=|<|>|=)
    |(?P<mark>[(),])""",
    re.VERBOSE,
)
_SPELLED = {"=": "==", "<>": "!="}
_EXAMPLE = "such as: project == 'LUAD' and n_tiles > 100"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A column against a value; ``== None`` asks for empty cells."""

    column: str
    operator: Operator
    value: Value

    def __str__(self) -> str:
        return f"{_column(self.column)} {self.operator} {_value(self.value)}"


@dataclass(frozen=True, kw_only=True)
class OneOf:
    """A column against several values."""

    column: str
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{_column(self.column)} in ({', '.join(map(_value, self.values))})"


@dataclass(frozen=True, kw_only=True)
class Not:
    """The opposite."""

    part: "Where"

    def __str__(self) -> str:
        return f"not {_nested(self.part)}"


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Two or more conditions: all of them ("and"), or any ("or")."""

    by: Literal["and", "or"]
    parts: tuple["Where", ...]

    def __str__(self) -> str:
        return f" {self.by} ".join(map(_nested, self.parts))


Where = Comparison | OneOf | Not | Joined


def parse_where(text: str) -> Where:
    """Reads a condition; its ``str`` reads as the same one again.

    Raises:
        SettingsError: what was found where, and what was expected there.
    """
    if len(text) > MOST_LETTERS:
        raise SettingsError(
            f"the condition has {len(text)} letters, at most {MOST_LETTERS} are read; put the "
            "names into a column of the labels instead"
        )
    reader = _Reader(text)
    found = reader.either()
    if reader.now.kind != "end":
        reader.refuse("'and', 'or' or the end")
    return found


def columns_of(where: Where) -> Iterator[str]:
    """The columns that a condition names, as often as it does."""
    if isinstance(where, (Comparison, OneOf)):
        yield where.column
        return
    for part in where.parts if isinstance(where, Joined) else (where.part,):
        yield from columns_of(part)


class _Token(NamedTuple):
    kind: str
    text: str
    place: int


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise _unreadable(text, place)
        kind, place = str(found.lastgroup), found.end()
        word = found.group()
        if kind == "name" and word.lower() in _WORDS:
            kind, word = "word", word.lower()
        if kind != "space":
            yield _Token(kind, word, found.start() + 1)
    yield _Token("end", "", len(text) + 1)


def _unreadable(text: str, place: int) -> SettingsError:
    letter = text[place]
    why = f"'{letter}' means nothing here"
    if letter in "'\"`":
        why = f"the quotation mark {letter} is not closed"
    elif letter.isdigit():
        why = "numbers are written as 5, 0.25 or 1e-3, and other words in quotes"
    return SettingsError(f"the condition cannot be read at letter {place + 1}: {why}")


class _Reader:
    """Walks through the tokens of a condition: what binds closer is read deeper."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._nested = 0
        self.now = next(self._tokens)

    def either(self) -> Where:
        return self._joined("or", self._all)

    def _all(self) -> Where:
        return self._joined("and", self._one)

    def _joined(self, by: Literal["and", "or"], part: Callable[[], Where]) -> Where:
        parts = [part()]
        while self._took(by):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(by=by, parts=tuple(parts))

    def _one(self) -> Where:
        self._nested += 1
        if self._nested > MOST_NESTED:
            raise SettingsError(f"the condition is nested more than {MOST_NESTED} deep")
        found = self._opposite_or_part()
        self._nested -= 1
        return found

    def _opposite_or_part(self) -> Where:
        if self._took("not"):
            return Not(part=self._one())
        if self._took("("):
            found = self.either()
            self._take(")", "'and', 'or' or ')'")
            return found
        return self._comparison()

    def _comparison(self) -> Where:
        column = self._column()
        if self._took("is"):
            operator: Operator = "!=" if self._took("not") else "=="
            self._take("null", "'null' or 'not null'")
            return Comparison(column=column, operator=operator, value=None)
        if self._took("not"):
            self._take("in", "'in'")
            return Not(part=self._one_of(column))
        if self._took("in"):
            return self._one_of(column)
        if self.now.kind != "operator":
            self.refuse("== != < <= > >= in, or is")
        operator = cast(Operator, _SPELLED.get(self.now.text, self.now.text))
        self._next()
        if self.now.text == "null" and operator not in {"==", "!="}:
            self.refuse("a number or a text in quotes, since null is neither more nor less")
        return Comparison(column=column, operator=operator, value=self._value())

    def _one_of(self, column: str) -> OneOf:
        self._take("(", "'('")
        values = [self._value()]
        while self._took(","):
            values.append(self._value())
        self._take(")", "',' or ')'")
        return OneOf(column=column, values=tuple(values))

    def _column(self) -> str:
        if self.now.kind == "text":
            self.refuse("a column, without quotes")
        if self.now.kind not in {"name", "column"}:
            self.refuse(f"a column, {_EXAMPLE}")
        token = self._next()
        return token.text if token.kind == "name" else token.text[1:-1].replace("``", "`")

    def _value(self) -> Value:
        if self.now.kind == "name":
            self.refuse(f"a number, or a text in quotes ('{self.now.text}')")
        if self.now.kind == "text":
            text = self._next().text
            return text[1:-1].replace(text[0] * 2, text[0])
        if self.now.kind == "number":
            return self._number()
        self._take("null", "a number, a text in quotes, or null")
        return None

    def _number(self) -> float:
        value = float(self.now.text)
        if math.isinf(value):
            self.refuse("a number below 1e308")
        self._next()
        return value

    def _took(self, text: str) -> bool:
        """Whether that comes now; it is then behind us."""
        there = self.now.kind in {"word", "mark"} and self.now.text == text
        if there:
            self._next()
        return there

    def _take(self, text: str, expected: str) -> None:
        if not self._took(text):
            self.refuse(expected)

    def _next(self) -> _Token:
        token = self.now
        if token.kind != "end":
            self.now = next(self._tokens)
        return token

    def refuse(self, expected: str) -> NoReturn:
        """Says what stands here instead of what was expected."""
        stands = f"'{self.now.text}'" if self.now.text else "the end"
        raise SettingsError(
            f"the condition cannot be read at letter {self.now.place}: expected {expected}; "
            f"got {stands}"
        )


def _column(name: str) -> str:
    if _NAME.fullmatch(name) and name.lower() not in _WORDS:
        return name
    return f"`{name.replace('`', '``')}`"


def _value(value: Value) -> str:
    if isinstance(value, str):
        return f"""'{value.replace("'", "''")}'"""
    return "null" if value is None else repr(value).removesuffix(".0")


def _nested(part: Where) -> str:
    """The part of another condition, in parentheses where it would be read otherwise."""
    return f"({part})" if isinstance(part, Joined) else str(part)
