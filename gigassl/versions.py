"""Versions of what a result depends on, for the provenance in every file."""

from importlib.metadata import PackageNotFoundError, version

SHAPING = (
    "gigassl", "numpy", "opencv-python-headless", "openslide-bin", "openslide-python", "simplejpeg",
    "timm", "torch",
)  # fmt: skip
"""Packages that can change a vector."""


def installed_version(package: str) -> str | None:
    """Version of an installed package, None where it is absent.

    >>> installed_version("no-such-package-at-all") is None
    True
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def shaping_versions() -> dict[str, str | None]:
    """Versions of gigassl and of the libraries that decode, resample and encode."""
    return {package: installed_version(package) for package in SHAPING}
