"""Digests: one short name for a whole settings record, a set of weights or any bytes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def plain(record: Any) -> Any:
    """A frozen record as JSON-ready values; fields with ``metadata={"digest": False}`` left out."""
    if is_dataclass(record) and not isinstance(record, type):
        kept = [f for f in fields(record) if f.metadata.get("digest", True)]
        return {f.name: plain(getattr(record, f.name)) for f in kept}
    if isinstance(record, Mapping):
        return {str(key): plain(value) for key, value in record.items()}
    if isinstance(record, (tuple, list)):
        return [plain(value) for value in record]
    return record


def digest_of_settings(record: Any) -> str:
    """16 hex digits that change with any digested field of a frozen settings record.

    Never lists fields by hand: the whole record counts, save fields that say
    ``metadata={"digest": False}`` (workers, device: what must not change a result).
    """
    text = json.dumps(plain(record), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of_tensors(tensors: "Mapping[str, Tensor]") -> str:
    """SHA-256 (16 hex digits) over sorted names, dtypes, shapes and bytes of a state dict."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        total.update(tensor.flatten().view(_uint8()).numpy().data)
    return total.hexdigest()[:16]


def _uint8() -> Any:
    import torch

    return torch.uint8
