"""Figures as files: PNG and SVG, equal figures with equal bytes."""

from pathlib import Path
from typing import TYPE_CHECKING

from gigassl.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METADATA = {"png": {"Software": None}, "svg": {"Date": None}}


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of that many inches, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", stem: Path) -> tuple[Path, ...]:
    """Writes ``stem``.png and ``stem``.svg.

    Raises:
        MachineError: they cannot be written.
    """
    from matplotlib import rc_context

    paths = []
    # text stays text; names inside an SVG, else drawn by chance, and its date are fixed
    with rc_context({"svg.hashsalt": "gigassl", "svg.fonttype": "none"}):
        for kind, metadata in _METADATA.items():
            paths.append(stem.with_name(f"{stem.name}.{kind}"))
            with written_whole(paths[-1]) as part:
                figure.savefig(part, dpi=150, format=kind, metadata=metadata)
    return tuple(paths)


def save_png(figure: "Figure", path: Path) -> None:
    """Writes one PNG: of pictures, which an SVG would only wrap.

    Raises:
        MachineError: it cannot be written.
    """
    with written_whole(path) as part:
        figure.savefig(part, dpi=150, format="png", metadata=_METADATA["png"])
