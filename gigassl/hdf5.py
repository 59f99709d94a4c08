"""HDF5 files of others: what must not be read of them, though the library would."""

import struct
from collections.abc import Iterator
from pathlib import Path

import h5py

_BOMB_BYTES = 1 << 30
_BOMB_RATIO = 1000
# a collection of texts: signature, version, three zeros; then its size, then its objects
_TEXTS = b"GCOL\1\0\0\0"
_MOST_SEARCHED = 1 << 26


def why_not_trusted(file: h5py.File) -> str:
    """What is wrong with a file's own claims, as the end of a sentence; "" where nothing is.

    A link or a dataset may name any other file of the machine, whose content the library would then
    hand out; a dataset may claim a size that would fill the memory while it stores nothing; and in
    a damaged collection of texts the library turns in a circle for ever.
    """
    held: list[tuple[int, int]] = []
    for path, found in _contents(file):
        if found is None:
            return f"{path} is a link into another file"
        if found.external or found.is_virtual:
            return f"{path} keeps its values in another file"
        stored = found.id.get_storage_size()
        if found.nbytes > _BOMB_BYTES and found.nbytes > _BOMB_RATIO * stored:
            return (
                f"{path} claims {found.nbytes / 1e9:,.0f} GB, of which {stored:,} bytes are stored"
            )
        offset = found.id.get_offset()
        if offset is not None:
            held.append((offset, offset + stored))
    return "its collection of texts is damaged" if _turns_in_a_circle(file, held) else ""


def _contents(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset | None]]:
    """Datasets by path; None for a link into another file, which is not followed."""
    seen: set[int] = set()
    waiting: list[h5py.Group] = [file]
    while waiting:
        group = waiting.pop()
        for name in group:
            path = f"{group.name.rstrip('/')}/{name}"
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                yield path, None
                continue
            found = group.get(name)
            if isinstance(found, h5py.Dataset):
                yield path, found
            elif isinstance(found, h5py.Group):
                address = h5py.h5o.get_info(found.id).addr
                if address not in seen:  # groups may hold one another
                    seen.add(address)
                    waiting.append(found)


def _turns_in_a_circle(file: h5py.File, held: list[tuple[int, int]]) -> bool:
    """Whether a step from one text to the next has no length; arrays are not looked at."""
    path = Path(file.filename)
    n_bytes, begin, searched = path.stat().st_size, 0, 0
    with path.open("rb") as raw:
        for start, end in [*sorted(held), (n_bytes, n_bytes)]:
            length = min(start, n_bytes) - begin
            if 0 < length <= _MOST_SEARCHED - searched:
                raw.seek(begin)
                if _has_circle(raw.read(length)):
                    return True
                searched += length
            begin = max(begin, end)
    return False


def _has_circle(data: bytes) -> bool:
    at = data.find(_TEXTS)
    while at >= 0:
        (size,) = struct.unpack_from("<Q", data.ljust(at + 16, b"\0"), at + 8)
        place, end = at + 16, min(at + size, len(data))
        while place + 16 <= end:
            index, length = struct.unpack_from("<H6xQ", data, place)
            # the free rest counts its own head, a text does not
            step = length if index == 0 else (16 + length + 7) // 8 * 8 % 2**64
            if step == 0:
                return True
            place += step
        at = data.find(_TEXTS, at + 8)
    return False
