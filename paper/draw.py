"""The pictures of figures 1 and 3: t-SNE by scikit-learn, drawn by matplotlib, the same bytes for the same features.

The libraries for drawing are imported where they are needed, so that the numbers can be had without them.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from experiment.errors import UserError
from paper.separation import NEIGHBOURS, Separation

PERPLEXITY = 30.0  # scikit-learn's default, the middle of what van der Maaten and Hinton recommend
LEAST_IMAGES = 5
SEED = 0
# Okabe and Ito's palette for every kind of colour vision, without its yellow, which is faint on white. Each colour
# comes with every marker, the colours changing first, so that 49 classes have a look of their own.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
MARKERS = ("o", "^", "s", "x", "D", "v", "+")
UNFILLED = ("x", "+")


@dataclass(frozen=True)
class Panel:
    """One picture of a figure: features (m, D) of images of classes (m,), and the numbers beside it."""

    title: str
    features: np.ndarray
    classes: np.ndarray
    numbers: Separation


def embed(features: np.ndarray) -> np.ndarray:
    """t-SNE (van der Maaten, Hinton 2008) of features (m, D), m >= `LEAST_IMAGES`: (m, 2) float32.

    It starts from the first two principal components and runs on one thread: with several, sums are rounded in
    another order each time, and the picture is another one.
    """
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)  # a neighbourhood of three times the perplexity is searched
    tsne = TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=SEED)
    with threadpool_limits(limits=1):
        return tsne.fit_transform(np.ascontiguousarray(features, dtype=np.float32))


def look(position: int) -> tuple[str, str]:
    """Colour and marker of the class at a position."""
    return COLOURS[position % len(COLOURS)], MARKERS[position // len(COLOURS) % len(MARKERS)]


def caption(numbers: Separation) -> str:
    """The numbers of a panel in a line."""
    silhouette = "-" if numbers.silhouette is None else f"{numbers.silhouette:+.3f}"
    return f"{NEIGHBOURS}-NN {100 * numbers.knn:.1f} % (chance {100 * numbers.chance:.1f} %), silhouette {silhouette}"


def draw(panels: Sequence[Panel], names: Sequence[str]) -> bytes:
    """A figure as SVG, the panels side by side; names : of all classes, in the order that gives them their look.

    Raises `UserError` where matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("matplotlib is not installed, so no figure can be drawn: run `make setup`") from None
    shown = sorted({int(kind) for panel in panels for kind in panel.classes})
    # Text stays text, and the names of clip paths and markers come from a salt, not from chance.
    with matplotlib.rc_context({"svg.hashsalt": "udft-audit", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(4.2 * len(panels), 5.2))
        canvas = FigureCanvasSVG(figure)
        for position, panel in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), position + 1)
            points = embed(panel.features)
            for kind in shown:
                colour, marker = look(kind)
                own = points[panel.classes == kind]
                filled = {"linewidths": 0.9} if marker in UNFILLED else {"edgecolors": "none"}
                axes.scatter(own[:, 0], own[:, 1], s=14, c=colour, marker=marker, label=names[kind], **filled)
            letter = "abcdefgh"[position]
            axes.set_title(f"({letter}) {panel.title}, {panel.numbers.dimension}-D\n{caption(panel.numbers)}")
            axes.set_xticks([])
            axes.set_yticks([])
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=4 * len(panels), frameon=False, fontsize=7)
        figure.subplots_adjust(left=0.01, right=0.99, top=0.91, bottom=0.19, wspace=0.03)
        buffer = io.BytesIO()
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
