"""Spool: the features of a cohort that does not fit the memory, in a file for the time of a run."""

import logging
from dataclasses import replace
from tempfile import TemporaryFile, gettempdir

import numpy as np
import torch
from jaxtyping import Float16
from torch import Tensor

from gigassl.bags.bag import Bag
from gigassl.files import MachineError, machine_error
from gigassl.vectors.tile_store import as_float16

log = logging.getLogger("gigassl")


class FeatureSpool:
    """A file without a name, in the folder of temporary files; it ends with the last use of it.

    Bags put into it keep their features there; all of them together are one tensor, in the order in
    which they came, each followed by its turned variants. What was put in stays after closing.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 (open as long as tensors lie in it)
        log.info("the features do not fit the memory; they wait on disk, in %s", gettempdir())

    def close(self) -> None:
        """Nothing more will be put in."""
        self._file.close()

    def put(self, bag: Bag) -> Bag:
        """The bag with its features, and those of its variants, in the file.

        Raises:
            SettingsError: features too large for float16.
            MachineError: the disk is full.
        """
        features = self._written(as_float16(bag))
        variants = None if bag.variants is None else self._written(bag.variants)
        return replace(bag, features=features, variants=variants)

    def features(self, dim: int) -> Float16[Tensor, "row {dim}"]:
        """All features that were put in."""
        self._file.flush()
        rows = np.memmap(self._file, dtype=np.float16, mode="r+")
        return torch.from_numpy(rows.reshape(-1, dim))

    def _written(self, values: np.ndarray) -> np.ndarray:
        begin = self._file.seek(0, 2)
        try:
            self._file.write(np.ascontiguousarray(values).data)
            self._file.flush()
        except OSError as error:
            doing = f"keeping features in {gettempdir()} (choose another folder with TMPDIR)"
            known = machine_error(error, doing=doing)
            raise known or MachineError(f"{doing}: {error.strerror}") from error
        return np.memmap(
            self._file, dtype=values.dtype, mode="r+", offset=begin, shape=values.shape
        )
