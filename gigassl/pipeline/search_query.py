"""What is searched for: a slide of the table, a new slide file, or a vector."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from gigassl.errors import SettingsError, unknown_name
from gigassl.pipeline.progress import Progress
from gigassl.slides.cohort import CohortSlide
from gigassl.vectors.merge import differing_settings
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.table import SlideTable, open_table

if TYPE_CHECKING:
    import gigassl.tiles.engine
    import gigassl.vectors.slide_model

# settings that only say of which slides a table is, or what was done where these say nothing
_HARMLESS = ("tiles.default_mpp", "tiles.external_masks")


@dataclass(frozen=True, kw_only=True)
class QueryOptions:
    """How a slide that is not in the table is embedded, beside what the table says itself.

    Attributes:
        slide_mpp: µm/px of the slide if its file does not say it; None takes the table's word.
        encoder: tile encoder, or where its weights are, for those that have no public name.
        slide_encoder: slide encoder, or its file, where the table was made by one.
        device: where encoders run.
        workers: reader threads.
        masks: folder of tissue masks, where the table was made with such.
    """

    slide_mpp: float | None = None
    encoder: "gigassl.tiles.engine.TileEncoder | str | None" = None
    slide_encoder: "gigassl.vectors.slide_model.SlideModel | str | None" = None
    device: str = "auto"
    workers: int | None = None
    masks: Path | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """What is searched for.

    Attributes:
        name: what it is called.
        vector: of length one.
        slide_id: None for a bare vector.
        patient_id: None where not known.
        row: of the table, where it is a slide of it.
        source: its file, where that was given.
        notes: sentences on how it was made.
    """

    name: str
    vector: Float32[np.ndarray, " dim"]
    slide_id: str | None = None
    patient_id: str | None = None
    row: int | None = None
    source: CohortSlide | None = None
    notes: tuple[str, ...] = ()


def read_query(
    query: str | np.ndarray, table: SlideTable, *, options: QueryOptions, progress: Progress
) -> Query:
    """Finds out what is searched for; the names of the table's slides come first.

    Args:
        query: slide_id; ``other.parquet#SLIDE_ID``; a ``.npy`` file of one vector; a slide or bag
            file; or a vector.

    Raises:
        SettingsError: none of these; a vector of another width; a slide that cannot be embedded as
            the table's were.
        SlideError: the slide cannot be read.
    """
    if isinstance(query, np.ndarray):
        return _bare("a vector", query, table)
    names = table.slide_ids
    if query in names:
        return _of_row(table, names.index(query))
    path, _, row = query.rpartition("#")
    if path.endswith(".parquet"):
        return _of_other_table(Path(path), row, table)
    if query.endswith(".npy"):
        return _bare(Path(query).name, _vector_of_file(Path(query)), table)
    if not Path(query).is_file():
        raise _nothing(query, names)
    # what embeds slides takes seconds to load
    from gigassl.pipeline.search_new_slide import embedded_query

    return embedded_query(Path(query), table, options=options, progress=progress)


def _of_row(table: SlideTable, row: int) -> Query:
    name = table.slide_ids[row]
    return Query(
        name=name, vector=table.embeddings[row], slide_id=name, patient_id=table.patient_ids[row],
        row=row,
    )  # fmt: skip


def _nothing(query: str, names: list[str]) -> SettingsError:
    if Path(query).is_dir():
        return SettingsError(f"{query} is a folder; give one slide file, or a slide_id")
    known = unknown_name("slide", query, known=names)
    return SettingsError(f"{known}; there is no such file either")


def _bare(name: str, vector: np.ndarray, table: SlideTable) -> Query:
    if vector.size != table.dim or max(vector.shape, default=0) != vector.size:
        raise SettingsError(
            f"{name} has the shape {list(vector.shape)}; the table's vectors are {table.dim} wide"
        )
    flat = vector.reshape(-1).astype(np.float64)
    if not np.isfinite(flat).all() or not flat.any():
        raise SettingsError(f"{name} holds NaN, infinite numbers, or only zeros")
    return Query(name=name, vector=l2_normalised(flat))


def _vector_of_file(path: Path) -> np.ndarray:
    try:
        # no pickled objects: these could run code
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise SettingsError(f"no such file: {path}") from error
    except (OSError, ValueError, EOFError) as error:
        raise SettingsError(f"{path} is no .npy file of numbers: {error}") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise SettingsError(f"{path} holds no numbers; save one vector with numpy.save")
    return found


def _of_other_table(path: Path, name: str, table: SlideTable) -> Query:
    other = open_table(path)
    vector, row = other.vector(name), other.slide_ids.index(name)
    if other.dim != table.dim:
        raise SettingsError(
            f"the vectors of {path} are {other.dim} wide, those of the table {table.dim}"
        )
    notes = _compared_settings(table.provenance, other.provenance, path=path)
    return Query(
        name=f"{path.name}#{name}", vector=vector, slide_id=name,
        patient_id=other.patient_ids[row], notes=notes,
    )  # fmt: skip


def _compared_settings(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], *, path: Path
) -> tuple[str, ...]:
    """Refuses vectors of other encoders, and says what else was not the same."""
    found = differing_settings(ours, theirs)
    differing = {name: pair for name, pair in found.items() if name not in _HARMLESS}
    said = "; ".join(f"{name}: {a} → {b}" for name, (a, b) in differing.items())
    if any(name.split(".")[0].endswith("encoder") for name in differing):
        raise SettingsError(f"the vectors of {path} are of other encoders ({said})")
    return (f"the query was made with other settings ({said})",) if said else ()
