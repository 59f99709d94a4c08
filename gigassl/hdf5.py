"""HDF5 files of others: what must not be read of them, though the library would."""

import h5py

_BOMB_BYTES = 1 << 30
_BOMB_RATIO = 1000


def why_not_trusted(file: h5py.File) -> str:
    """What is wrong with a file's own claims, as the end of a sentence; "" where nothing is.

    A link or a dataset may name any other file of the machine, whose content the library would then
    hand out; and a dataset may claim a size that would fill the memory while it stores nothing.
    """
    seen: set[int] = set()
    waiting: list[h5py.Group] = [file]
    while waiting:
        group = waiting.pop()
        for name in group:
            path = f"{group.name.rstrip('/')}/{name}"
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                return f"{path} is a link into another file"
            found = group.get(name)
            if isinstance(found, h5py.Dataset):
                wrong = _wrong_with(found)
                if wrong:
                    return f"{path} {wrong}"
            elif isinstance(found, h5py.Group):
                address = h5py.h5o.get_info(found.id).addr
                if address not in seen:  # groups may hold one another
                    seen.add(address)
                    waiting.append(found)
    return ""


def _wrong_with(dataset: h5py.Dataset) -> str:
    if dataset.external or dataset.is_virtual:
        return "keeps its values in another file"
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > _BOMB_BYTES and dataset.nbytes > _BOMB_RATIO * stored:
        return f"claims {dataset.nbytes / 1e9:,.0f} GB, of which {stored:,} bytes are stored"
    return ""
