"""Foreign vectors: what a file of another tool holds."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gigassl.errors import SettingsError


@dataclass(frozen=True, kw_only=True, eq=False)
class ForeignVectors:
    """Vectors of slides as another tool wrote them.

    Attributes:
        tool: which tool, or kind of file.
        names: of the slides, as the file has them.
        vectors: one a name.
        patient_ids: one a name, where the file has them; "" where it leaves one out.
        encoder: what made the vectors, "" where the file does not say it.
        notes: what was left out.

    Raises:
        SettingsError: no slides, or names and vectors that do not match in number.
    """

    tool: str
    names: tuple[str, ...]
    vectors: Float[np.ndarray, "slide dim"]
    patient_ids: tuple[str, ...] | None = None
    encoder: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) != len(self.vectors):
            raise SettingsError(
                f"{len(self.names)} names and {len(self.vectors)} vectors; one name each is needed"
            )
        if self.vectors.size == 0:
            raise SettingsError("it holds no vectors")
