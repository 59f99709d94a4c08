"""Seeded mutations of files: bytes, text, numbers in JSON headers, directories of TIFF files."""

import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

_NASTY_INTS = (0, 1, 2, 7, 255, 256, 65_535, 65_536, 10**6, 2**31 - 1, 2**31, 2**32 - 1)
_NASTY_TEXTS = (
    "", "nan", "-1", "0", "1e400", "-inf", "9" * 400, "../../etc/passwd", "/etc/passwd", "\x00",
    '"', "'", ",", "\n", "\ufeff", "é", "\U0001f600", "=1+1", "<script>", "a" * 70_000, "[]", "{}",
    "null", "true", "1.5", "2147483648", "|", "MPP = x", "../",
)  # fmt: skip


def mutate_bytes(data: bytes, chance: random.Random) -> bytes:
    """Flips, overwrites, removes, repeats or cuts off a few stretches."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not found:
            break
        start = chance.randrange(len(found))
        end = min(len(found), start + chance.choice((1, 2, 4, 8, 64, 1024)))
        kind = chance.randrange(6)
        if kind == 0:
            found[start] ^= 1 << chance.randrange(8)
        elif kind == 1:
            found[start:end] = chance.randbytes(end - start)
        elif kind == 2:
            found[start:end] = bytes([chance.choice((0, 255))]) * (end - start)
        elif kind == 3:
            del found[start:end]
        elif kind == 4:
            found[start:start] = found[start:end]
        else:
            del found[start:]
    return bytes(found)


def mutate_text(data: bytes, chance: random.Random) -> bytes:
    """Replaces, removes, repeats or exchanges words and lines; now and then bytes."""
    if chance.random() < 0.25:
        return mutate_bytes(data, chance)
    lines = data.decode("utf-8", errors="replace").split("\n")
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(lines))
        kind = chance.randrange(6)
        if kind == 0:
            lines.insert(at, lines[chance.randrange(len(lines))])
        elif kind == 1 and len(lines) > 1:
            del lines[at]
        elif kind == 2:
            lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
        else:
            words = re.split(r"([\s,:=\"\[\]{}]+)", lines[at])
            words[chance.randrange(len(words))] = chance.choice(_NASTY_TEXTS)
            lines[at] = "".join(words)
    return "\n".join(lines).encode("utf-8", errors="replace")


def mutate_json(data: bytes, chance: random.Random) -> bytes:
    """Changes a value or key somewhere inside; now and then text."""
    if chance.random() < 0.3:
        return mutate_text(data, chance)
    document = json.loads(data)
    for _ in range(chance.choice((1, 1, 2))):
        document = changed(document, chance)
    return json.dumps(document).encode()


def changed(thing: Any, chance: random.Random) -> Any:
    """The same document with one value replaced, removed, doubled or renamed."""
    if isinstance(thing, dict) and thing and chance.random() < 0.9:
        return _changed_mapping(thing, chance)
    if isinstance(thing, list) and thing and chance.random() < 0.9:
        at = chance.randrange(len(thing))
        middle = ([], [thing[at], thing[at]])[chance.randrange(2)]
        if chance.random() < 0.6:
            middle = [changed(thing[at], chance)]
        return [*thing[:at], *middle, *thing[at + 1 :]]
    choices: tuple[object, ...] = (
        None, True, [], {}, [[]], -1, 0, 1.5, 10**6, 10**18, 1e308, float("nan"),
        chance.choice(_NASTY_TEXTS),
    )  # fmt: skip
    return chance.choice(choices)


def _changed_mapping(thing: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    key = chance.choice(sorted(thing))
    rest = {k: v for k, v in thing.items() if k != key}
    kind = chance.randrange(8)
    if kind == 0:
        return rest
    if kind == 1:
        return {**rest, chance.choice(_NASTY_TEXTS): thing[key]}
    return {**thing, key: changed(thing[key], chance)}


def mutate_safetensors(data: bytes, chance: random.Random) -> bytes:
    """Changes the header, or the card inside it, and writes a length that fits; or bytes."""
    if chance.random() < 0.3:
        return mutate_bytes(data, chance)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    described = header.get("__metadata__", {})
    cards = [name for name, text in described.items() if text.startswith("{")]
    if cards and chance.random() < 0.7:
        name = chance.choice(sorted(cards))
        described[name] = json.dumps(changed(json.loads(described[name]), chance))
    else:
        header = changed(header, chance)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def mutate_tiff(data: bytes, chance: random.Random) -> bytes:
    """Changes entries of image directories of a classic little-endian TIFF; or bytes."""
    if chance.random() < 0.3:
        return mutate_bytes(data, chance)
    found = bytearray(data)
    entries = _entries(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.choice(entries)
        tag, kind, count, value = struct.unpack_from("<HHII", found, at)
        what = chance.randrange(10)
        if what == 0:
            tag = chance.choice((254, 256, 257, 258, 259, 262, 277, 322, 323, 324, 325, 347, 530))
        elif what == 1:
            kind = chance.randrange(20)
        elif what == 2:
            count = chance.choice(_NASTY_INTS)
        elif what == 3 and tag == 270:
            _replace_text(found, at=value, n_bytes=count, chance=chance)
        elif what == 4:
            tag, value = chance.choice((256, 257)), chance.choice((10**6, 2**31 - 1, 2**32 - 1))
            at = next((e for e in entries if found[e : e + 2] == struct.pack("<H", tag)), at)
            kind, count = 4, 1
        else:
            value = chance.choice(
                (*_NASTY_INTS, value ^ (1 << chance.randrange(32)), len(data) - 4)
            )
        struct.pack_into("<HHII", found, at, tag, kind, count, value)
    return bytes(found)


def _replace_text(found: bytearray, *, at: int, n_bytes: int, chance: random.Random) -> None:
    text = bytes(found[at : at + n_bytes])
    new = mutate_text(text, chance)[:n_bytes].ljust(n_bytes, b"\0")
    found[at : at + n_bytes] = new


def _entries(data: bytes) -> list[int]:
    """Where the entries of all directories stand."""
    places: list[int] = []
    (at,) = struct.unpack_from("<I", data, 4)
    while at:
        (n,) = struct.unpack_from("<H", data, at)
        places += range(at + 2, at + 2 + 12 * n, 12)
        (at,) = struct.unpack_from("<I", data, at + 2 + 12 * n)
    return places
