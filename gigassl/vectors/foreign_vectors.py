"""Slide vectors of other tools: which files hold them, and how each kind is read.

Giga-SSL's ``embeddings.npy`` beside ``ids.npy``, TRIDENT's and STAMP's one ``.h5`` a slide, COBRA's
one ``.h5`` a cohort, TITAN's pickle (parsed, never run), any CSV or Parquet table.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gigassl.errors import SettingsError, SlideError
from gigassl.vectors.foreign_arrays import IDS, read_npy, read_pickle
from gigassl.vectors.foreign_h5 import read_h5
from gigassl.vectors.foreign_record import ForeignVectors
from gigassl.vectors.foreign_tables import read_csv, read_parquet

Reader = Callable[[Path], ForeignVectors]

READERS: Mapping[str, Reader] = {
    ".npy": read_npy,
    ".h5": read_h5,
    ".hdf5": read_h5,
    ".pkl": read_pickle,
    ".pickle": read_pickle,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
"""Ending of a file → what reads it."""


def foreign_files(sources: Sequence[Path]) -> list[Path]:
    """The files to read of files and folders, each once, in order of their names.

    A folder is searched for ``.h5`` and ``.npy`` files; ``ids.npy`` is read with its neighbour.

    Raises:
        SettingsError: nothing there, or a kind of file that is not known.
    """
    found: dict[Path, None] = {}
    for source in sources:
        if not source.exists():
            raise SettingsError(f"no such file or folder: {source}")
        held = [source] if source.is_file() else _below(source)
        if not held:
            raise SettingsError(f"{source} holds no .h5 or .npy files of slide vectors")
        found.update(dict.fromkeys(held))
    files = [path for path in found if path.name != IDS]
    unknown = next((path for path in files if path.suffix.lower() not in READERS), None)
    if unknown is not None:
        raise SettingsError(
            f"{unknown.name} is no known kind of vectors file; known: {', '.join(READERS)}"
        )
    if not files:
        raise SettingsError(f"{IDS} holds names only; give the file of the vectors beside it")
    return sorted(files)


def _below(folder: Path) -> list[Path]:
    files = (path for suffix in ("h5", "hdf5", "npy") for path in folder.rglob(f"*.{suffix}"))
    return sorted(path for path in files if not path.name.startswith("."))


def read_foreign(path: Path) -> ForeignVectors:
    """Reads one file of another tool, without running any code of it.

    Raises:
        SettingsError: not such a file; the sentence says what it is, and what to do.
        SlideError: the file of one slide is damaged.
    """
    try:
        return READERS[path.suffix.lower()](path)
    except SlideError as error:
        # a file of many slides is the user's whole input, not one of its slides
        if path.suffix.lower() in (".h5", ".hdf5"):
            raise
        raise SettingsError(f"{path.name}: {error}") from error
