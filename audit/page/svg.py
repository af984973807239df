"""matplotlib's SVG as a part of the page: it takes its colours from there, and is the same for the same figures.

Every colour that is drawn is a name for one of the page's (audit/templates/report.css), so that a chart follows light
and dark.
"""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, FAINT = "#010101", "#020202"
SERIES = tuple(f"#0300{i:02x}" for i in range(6))
BAD = "#040404"
# What is drawn to what stands in the page.
ON_PAGE = {INK: "currentColor", FAINT: "var(--rule)", BAD: "var(--bad)"} | {
    colour: f"var(--series-{i})" for i, colour in enumerate(SERIES)
}
WIDTH = 10.0  # inches of 72 units of the picture each, which the page shows as pixels
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "udft-audit",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "hatch.color": INK,
    "hatch.linewidth": 0.8,
}


def drawn(name: str, height: float, rows: int, columns: int, fill: Callable[[list[Axes]], None], **grid: Any) -> str:
    """A chart of so many inches' height as an <svg> element.

    name : begins every id in it, so that two charts of a page share none. fill : called with the list of its axes.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        axes = [axis for line in figure.subplots(rows, columns, squeeze=False, **grid) for axis in line]
        for axis in axes:
            axis.patch.set_visible(False)
            axis.tick_params(length=0)
        fill(axes)
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return on_page(buffer.getvalue(), name)


def on_page(text: str, name: str) -> str:
    """matplotlib's SVG document as an element of the page: no prologue, no fixed size, own ids, the page's colours."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)
    # In the tags alone: a class that is called #010101 or id="x" keeps its name.
    return re.sub(r"<[^<>]*>", lambda tag: tag_on_page(tag[0], name), text).strip()


def tag_on_page(tag: str, name: str) -> str:
    """A tag with its ids and references beginning with `name`, and with the page's font and colours."""
    tag = re.sub(r' id="([^"]*)"', rf' id="{name}-\1"', tag)
    tag = re.sub(r'(xlink:)?href="#([^"]*)"', rf'href="#{name}-\2"', tag)
    tag = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", tag)
    tag = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1var(--font)", tag)
    for colour, there in ON_PAGE.items():
        tag = tag.replace(colour, there)
    return tag
