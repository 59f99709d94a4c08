"""Alignment: which predictions were made for the very same test slides, fold by fold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gigassl.errors import SettingsError

KEYS = ("draw", "fold", "slide_id")
"""What a test is told by; rows stand in this order."""


def parts_of(data: pa.Table) -> Sequence[pa.Table]:
    """A table a method, task, split, training size and level, its rows in one order."""
    names = ["task", "split", "train_size", "level", "method"]
    first = data.append_column("row", pa.array(np.arange(len(data))))
    groups = first.group_by(names).aggregate([("row", "list"), ("row", "min")])
    lists = groups.sort_by("row_min")["row_list"].to_pylist()
    return [data.take(pa.array(rows)).sort_by([(k, "ascending") for k in KEYS]) for rows in lists]


def facts(part: pa.Table, *names: str) -> tuple[Any, ...]:
    """What the first row holds in these columns."""
    return tuple(part[name][0].as_py() for name in names)


def once_each(parts: Sequence[pa.Table]) -> Sequence[pa.Table]:
    """The tables, equal ones once (a control may have been run beside several methods).

    Raises:
        SettingsError: different predictions under one name.
    """
    kept: dict[tuple[str, str], pa.Table] = {}
    for part in parts:
        name = facts(part, "method", "split")
        before = kept.setdefault(name, part)
        if before is not part and not _equal(before, part):
            raise SettingsError(
                f"two different predictions are called '{name[0]}' (task {facts(part, 'task')[0]},"
                f" {name[1]}); give one of the files a name of its own: NAME=FILE"
            )
    return list(kept.values())


def _equal(one: pa.Table, other: pa.Table) -> bool:
    # a class without predictions may be a column of nulls in one, and missing in the other
    def told(table: pa.Table) -> pa.Table:
        names = [n for n in sorted(table.column_names) if table[n].null_count < len(table)]
        return table.select([n for n in names if n not in {"n_train", "seen"}])

    return bool(told(one).equals(told(other)))


def on_the_same_slides(parts: Sequence[pa.Table]) -> Sequence[Sequence[pa.Table]]:
    """The tables in groups whose test slides are the same in every fold.

    Raises:
        SettingsError: a slide twice in a fold; one name of splits with different test slides.
    """
    groups: dict[tuple[Any, ...], list[pa.Table]] = {}
    for part in parts:
        key = tuple(tuple(part[name].to_pylist()) for name in KEYS)
        if len(set(zip(*key, strict=True))) < len(part):
            raise SettingsError(
                f"'{facts(part, 'method')[0]}' has two predictions of one slide in one fold "
                f"({title(part)})"
            )
        groups.setdefault(key, []).append(part)
    by_split: dict[str, pa.Table] = {}
    for group in groups.values():
        for part in group:
            before = by_split.setdefault(facts(part, "split")[0], group[0])
            if before is not group[0]:
                raise SettingsError(_differ(before, part))
    return list(groups.values())


def _differ(one: pa.Table, other: pa.Table) -> str:
    keys = [set(zip(*(p[k].to_pylist() for k in KEYS), strict=True)) for p in (one, other)]
    only = [sorted(keys[0] - keys[1]), sorted(keys[1] - keys[0])]
    first = next(key for part in only for key in part)
    return (
        f"'{facts(one, 'method')[0]}' and '{facts(other, 'method')[0]}' were not tested on the "
        f"same slides ({title(one)}): {len(only[0])} tests are only in the first, {len(only[1])} "
        f"only in the second, such as slide '{first[2]}' in fold {first[1]} of draw {first[0]}. "
        "Run the second with --splits and the folder of splits that stands beside the first one's "
        "predictions, on slides that both have"
    )


def title(part: pa.Table) -> str:
    """What messages call a table of one method."""
    return "{}, {}, train size {}, level {}".format(
        *facts(part, "task", "split", "train_size", "level")
    )
