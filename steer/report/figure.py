"""How every plot looks, and how one is saved: SVG with its text kept as text, PNG, no window system."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from steer.report.visible import visible

INK, MUTED, GRID = "#1f2328", "#5b6470", "#e3e6ea"
TARGET, RANDOM, DIRECTION, OTHERS = "#0072b2", "#7a7f87", "#e69f00", ("#009e73", "#cc79a7", "#d55e00", "#56b4e9")
"""Okabe and Ito's colours, which differ for every kind of colour vision; markers differ too."""

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "axes.unicode_minus": True,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "text.color": INK,
    "figure.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "steer",  # the same numbers give the same file
}


@dataclass(frozen=True)
class Plot:
    """A drawn plot: file name without suffix, the question it answers, what is seen, and the drawing."""

    name: str
    question: str
    caption: str
    svg: str
    png: bytes


@contextmanager
def styled() -> Iterator[None]:
    """Inside, figures are made and saved in the house style."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A token in a script that the PNG's font lacks is a box there and whole in the SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(width: float = 7.2, height: float = 4.2) -> Figure:
    """An empty figure; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def titled(figure: Figure, question: str, caption: str, name: str) -> Plot:
    """The figure with its question above and what is seen below that, saved both ways."""
    figure.suptitle(visible(question), x=0.012, ha="left", fontsize=12, fontweight="bold")
    svg = svg_text(figure)
    figure.set_layout_engine("none")  # everything has its place now
    return Plot(name, visible(question), visible(caption), svg, png_bytes(figure))


def legend_below(figure: Figure, handles: Sequence[Line2D]) -> None:
    """A legend under everything, in as many columns as the width has room for."""
    columns = max(1, min(len(handles), int(figure.get_figwidth() / 2.4)))
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, fontsize=9)


def svg_text(figure: Figure) -> str:
    """The figure as SVG, without anything that could act."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return harmless(buffer.getvalue())


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG, 144 dots per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144, metadata={"Software": None})
    return buffer.getvalue()


SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"


def harmless(svg: str) -> str:
    """An SVG document without scripts, foreign content, event handlers and links out of the file."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("script", "foreignObject", "metadata", "a", "animate", "set"):
                parent.remove(child)
        for key in [key for key, value in parent.attrib.items() if _acts(key, value)]:
            del parent.attrib[key]
    return ElementTree.tostring(root, "unicode")


def _acts(key: str, value: str) -> bool:
    outward = _local(key) == "href" and not value.startswith(("#", "data:image/png"))
    return _local(key).lower().startswith("on") or outward


def _local(name: object) -> str:
    return str(name).rsplit("}", 1)[-1]


def percent(axes: Axes) -> None:
    """A y axis of rates: 0 to 100 %."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylim(-0.03, RATE_TOP)


RATE_TOP = 1.12


def dose_axis(axes: Axes, doses: list[float], apart: float = 0.045) -> None:
    """Ticks at the doses themselves; a logarithmic axis where they span more than 30 times, with 0 in place."""
    positive = [abs(dose) for dose in doses if dose]
    if positive and max(positive) / min(positive) > 30:
        axes.set_xscale("symlog", linthresh=min(positive))
    kept = spaced(doses, axes, apart)
    axes.set_xticks(kept, labels=[f"{dose:g}" for dose in kept])
    axes.minorticks_off()


def spaced(doses: list[float], axes: Axes, apart: float) -> list[float]:
    """The doses whose labels do not run into each other; the last one always stays."""
    scale = axes.xaxis.get_transform().transform
    places = dict(zip(doses, map(float, scale(doses)), strict=True))
    width = (places[doses[-1]] - places[doses[0]]) * apart or 1.0
    kept = [doses[-1]]
    for dose in reversed(doses[:-1]):
        if places[kept[-1]] - places[dose] >= width:
            kept.append(dose)
    return kept[::-1]
