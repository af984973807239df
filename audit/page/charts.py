"""The report's charts. Series differ by marker, line or hatch as well as by colour."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from audit.page.svg import BAD, FAINT, INK, SERIES, drawn

MARKERS = ("o", "x", "s", "D", "^", "v")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))


@dataclass(frozen=True)
class Span:
    """A difference with its interval; drawn hollow where it is not `certain`: too few seeds stand behind it."""

    value: float
    low: float
    high: float
    certain: bool = True


def look(position: int) -> dict[str, Any]:
    """Colour and marker of a series at a position."""
    return {"color": SERIES[position % len(SERIES)], "marker": MARKERS[position % len(MARKERS)]}


def logarithmic(axis: Axes) -> None:
    """A logarithmic y with plain numbers beside it: matplotlib's own are formulas."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
    axis.yaxis.set_minor_locator(NullLocator())


def bars(name: str, labels: Sequence[str], values: Sequence[float], judged: Sequence[bool], k: float) -> str:
    """Errors in noise floors, a bar each, first on top; those that k does not judge are hatched and unfilled.

    A bar longer than 2 k, or of no number, is cut there; its number stands beside it.
    """
    cut = 2 * k

    def fill(axes: list[Axes]) -> None:
        (axis,) = axes
        for i, (value, counts) in enumerate(zip(values, judged, strict=True)):
            beyond = not value <= k
            colour = BAD if counts and beyond else SERIES[0]
            length = value if value <= cut else cut
            how: dict[str, Any] = (
                {"color": colour} if counts else {"facecolor": "none", "edgecolor": colour, "hatch": "////"}
            )
            axis.barh(i, length, height=0.66, **how)
            told = f"{value:.2g}" + (" (cut)" if not value <= cut else "")
            axis.annotate(told, (length, i), (5, 0), textcoords="offset points", va="center")
        axis.axvline(k, color=INK, linestyle="--", linewidth=1.2)
        axis.annotate(f"k = {k:g}", (k, 1), (4, 2), ("data", "axes fraction"), "offset points", va="bottom")
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(len(labels) - 0.4, -0.6)
        axis.set_xlim(0, max(k * 1.25, *(min(value, cut) * 1.15 if value <= cut else cut * 1.15 for value in values)))
        axis.set_xlabel("the port's error, in noise floors")
        axis.grid(False, axis="y")

    return drawn(name, 0.9 + 0.36 * len(labels), 1, 1, fill)


def layers(
    name: str,
    values: Sequence[float],
    bounds: Sequence[float | None],
    ratios: Sequence[float | None],
    k: float,
    departure: tuple[int, str] | None,
) -> str:
    """A net's blobs in forward order: above the difference of both sides, below the port's error in noise floors.

    departure : position and name of the first blob that departs. A difference of 0 is drawn hollow at the foot, one
    that is no number as a cross at the top.
    """
    positive = [value for value in values if 0 < value < math.inf] + [bound for bound in bounds if bound]
    foot, top = min(positive, default=1e-8) / 4, max(positive, default=1e-5) * 4

    def fill(axes: list[Axes]) -> None:
        above, below = axes
        for i, value in enumerate(values):
            finite = math.isfinite(value)
            where = min(max(value, foot), top) if finite else top
            hollow: dict[str, Any] = {"markerfacecolor": "none"} if value == 0 else {}
            above.plot(i, where, color=SERIES[0], marker="o" if finite else "x", markersize=4, **hollow)
        told = [(i, bound) for i, bound in enumerate(bounds) if bound]
        if told:
            above.step(*zip(*told, strict=True), where="mid", color=INK, linestyle="--", linewidth=1.2)
            above.annotate("allowed", told[-1], (0, 4), textcoords="offset points", ha="right")
        logarithmic(above)
        above.set_ylim(foot / 1.5, top * 1.5)
        above.set_title("relative L2 of port and Caffe, the worst image")
        lengths = [(i, ratio if ratio <= 2 * k else 2 * k) for i, ratio in enumerate(ratios) if ratio is not None]
        for i, length in lengths:
            below.bar(i, length, color=SERIES[0] if length <= k else BAD)
        below.axhline(k, color=INK, linestyle="--", linewidth=1.2)
        below.annotate(f"k = {k:g}", (len(values) - 1, k), (0, 3), textcoords="offset points", ha="right")
        below.set_ylim(0, max(1.3 * k, *(1.1 * length for _, length in lengths)))
        below.set_title("the port's error to float64, in noise floors")
        below.set_xlabel("blob, in forward order")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        if departure:
            for axis in axes:
                axis.axvline(departure[0], color=BAD, linewidth=1.6)
            at = (departure[0], 1)
            right = departure[0] > len(values) / 2
            above.annotate(
                f"first departure: {departure[1]}", at, (-6 if right else 6, -4), ("data", "axes fraction"),
                "offset points", va="top", ha="right" if right else "left", color=BAD,
            )  # fmt: skip

    return drawn(name, 5.2, 2, 1, fill, sharex=True)


def curves(name: str, x: Sequence[float], series: Mapping[str, Sequence[float]], difference: Sequence[float]) -> str:
    """Curves overlaid, and below how far they are apart."""

    def fill(axes: list[Axes]) -> None:
        above, below = axes
        for i, (label, y) in enumerate(series.items()):
            # The second lies on the first: a thin broken line over a broad one shows both.
            above.plot(x, y, color=SERIES[i], linestyle=LINES[i], linewidth=4 if i == 0 else 1.8, label=label)
        above.set_title("loss of the iteration's batch")
        above.legend()
        below.plot(x, difference, color=INK, marker=".", markersize=4, linewidth=0.8)
        if any(value > 0 for value in difference):
            logarithmic(below)
        below.set_title("difference of both, absolute")
        below.set_xlabel("iteration")

    return drawn(name, 5.2, 2, 1, fill, sharex=True, height_ratios=(3, 2))


def dots(name: str, labels: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """A line a label, a panel each with a marker a series; percent."""

    def fill(axes: list[Axes]) -> None:
        for axis, (title, series) in zip(axes, panels.items(), strict=True):
            for i, (label, values) in enumerate(series.items()):
                hollow = {"markerfacecolor": "none", "markersize": 9} if i == 0 else {"markersize": 6}
                how = {**look(i), **hollow, "linestyle": "none", "markeredgewidth": 1.6}
                axis.plot(values, range(len(labels)), label=label, **how)
            axis.set_title(title)
            axis.set_yticks(range(len(labels)), labels)
            axis.set_ylim(len(labels) - 0.4, -0.6)
            axis.set_xlim(-3, 103)
            axis.set_xlabel("AP, %")
        handles, names = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(handles, names, loc="outside upper right", ncols=len(names))

    return drawn(name, 1.4 + 0.29 * len(labels), 1, len(panels), fill, sharey=True)


def forest(name: str, panels: Mapping[str, Mapping[str, Span]], band: float | None = None) -> str:
    """Differences with their intervals: panel, label to a `Span`. band : shaded on both sides of 0."""
    labels = list(dict.fromkeys(label for spans in panels.values() for label in spans))

    def fill(axes: list[Axes]) -> None:
        for axis, (title, spans) in zip(axes, panels.items(), strict=True):
            if band is not None:
                axis.axvspan(-band, band, color=FAINT, alpha=0.6, linewidth=0)
            axis.axvline(0, color=INK, linewidth=1)
            for label, span in spans.items():
                error = [[max(span.value - span.low, 0)], [max(span.high - span.value, 0)]]
                hollow: dict[str, Any] = {} if span.certain else {"markerfacecolor": "none", "markeredgewidth": 1.5}
                axis.errorbar(span.value, labels.index(label), xerr=error, **look(0), capsize=3, **hollow)
            axis.set_title(title)
            axis.set_yticks(range(len(labels)), labels)
            axis.set_ylim(len(labels) - 0.4, -0.6)
            axis.set_xlabel("difference of mAP, %")
            axis.grid(False, axis="y")

    return drawn(name, 1.2 + 0.34 * len(labels), 1, len(panels), fill, sharey=True)


def lines(name: str, x: Sequence[int], panels: Mapping[str, Mapping[str, Sequence[float | None]]]) -> str:
    """mAP over N1, a panel each, a line a series; None leaves a gap."""

    def fill(axes: list[Axes]) -> None:
        for axis, (title, series) in zip(axes, panels.items(), strict=True):
            for i, (label, values) in enumerate(series.items()):
                told = [math.nan if value is None else value for value in values]
                axis.plot(range(len(x)), told, **look(i), linestyle=LINES[i % len(LINES)], label=label, markersize=6)
            axis.set_title(title)
            axis.set_xticks(range(len(x)), [str(n1) for n1 in x])
            axis.set_xlabel("N1")
        axes[0].set_ylabel("mAP, %")
        handles, names = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(handles, names, loc="outside lower center", ncols=len(names))

    return drawn(name, 4.2, 1, len(panels), fill)
