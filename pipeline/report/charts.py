"""The report's plots: SVG that takes its colours from the page, for light and dark, and whose text stays text."""

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours, which colour-blind readers tell apart, on light and on dark ground.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#999999")
_INK, _GRID = "#010101", "#020202"  # stand for the page's own
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "grid.color": _GRID,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "figure.constrained_layout.use": True,
}
_LABELS = 8  # of an axis of days

Points = Sequence[tuple[float, float]]


def _svg(figure: Figure, title: str) -> Markup:
    """A figure as an SVG element; `title` is what a screen reader says."""
    figure.axes[0].set_title(title, loc="left", fontsize=11)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title}):  # ids differ from those of the page's other figures
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor").replace(_GRID, "var(--line)")
    # As wide as there is room, and no wider than it was made for.
    width = svg.split('width="', 1)[1].split('"', 1)[0]
    height = svg.split('height="', 1)[1].split('"', 1)[0]
    svg = svg.replace(f'width="{width}"', "", 1).replace(f'height="{height}"', "", 1)
    head = f'<svg role="img" aria-label="{Markup.escape(title)}" style="max-width:{width}"'
    return Markup(svg.replace("<svg", head, 1))  # noqa: S704  (matplotlib has escaped the text)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, height))  # without pyplot, which keeps figures and chooses a backend for the process
    return figure, figure.subplots()


def _days(axes: Axes, days: Sequence[str]) -> None:
    step = max(-(-len(days) // _LABELS), 1)
    axes.set_xticks(range(0, len(days), step), days[::step], rotation=30, ha="right")


def stacked_days(title: str, days: Mapping[str, Mapping[str, float]]) -> Markup:
    """Day -> part -> rows, as bars on each other."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(3.3)
        below = [0.0] * len(days)
        for part in dict.fromkeys(part for parts in days.values() for part in parts):
            heights = [parts.get(part, 0.0) for parts in days.values()]
            axes.bar(range(len(days)), heights, bottom=below, width=1.0, label=part)
            below = [low + height for low, height in zip(below, heights, strict=True)]
        _days(axes, list(days))
        axes.set_ylabel("rows")
        figure.legend(loc="outside lower center", ncols=5)
        return _svg(figure, title)


def day_lines(title: str, lines: Mapping[str, Mapping[str, float]], bounds: Mapping[str, float]) -> Markup:
    """Line -> day -> value; `bounds`: line -> a value that is drawn across."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(3.3)
        days = sorted({day for values in lines.values() for day in values})
        place = {day: number for number, day in enumerate(days)}
        for number, (name, values) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot([place[day] for day in values], list(values.values()), ".-", lw=1, label=name, color=colour)
            if name in bounds:
                axes.axhline(bounds[name], ls="--", lw=1, color=colour)
        _days(axes, days)
        axes.set_ylabel("distance from the day before")
        figure.legend(loc="outside lower center", ncols=3)
        return _svg(figure, title)


def curves(title: str, x: str, lines: Mapping[str, Points], labels: Mapping[str, Sequence[str]]) -> Markup:
    """Line -> points; `labels`: line -> a word beside each point."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(2.8)
        for name, points in lines.items():
            drawn = [point for point in points if math.isfinite(point[1])]
            axes.plot([point[0] for point in drawn], [point[1] for point in drawn], "o-", ms=4, label=name)
            for (across, up), word in zip(points, labels.get(name, ()), strict=False):
                axes.annotate(word, (across, up), xytext=(4, -12), textcoords="offset points", fontsize=9)
        axes.set_xlabel(x)
        if all(float(across).is_integer() for points in lines.values() for across, _ in points):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        return _svg(figure, title)


def intervals(title: str, rows: Sequence[str], sides: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> Markup:
    """Side -> row -> (value, lower, upper) as points with their intervals, a line for each row; infinite ends are not
    drawn."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(0.9 + 0.28 * len(rows) * max(len(sides), 1))
        for number, (side, values) in enumerate(sides.items()):
            colour = COLOURS[number]
            for row, name in enumerate(rows):
                if name not in values:
                    continue
                value, lower, upper = values[name]
                place = row + (number - (len(sides) - 1) / 2) * 0.3
                if math.isfinite(lower) and math.isfinite(upper):
                    axes.plot([lower, upper], [place, place], lw=2, color=colour)
                axes.plot([value], [place], "o", ms=5, color=colour, label=side if name == rows[0] else None)
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        if len(sides) > 1:
            axes.legend()
        return _svg(figure, title)


def bars(title: str, x: str, rows: Sequence[str], sides: Mapping[str, Sequence[float]]) -> Markup:
    """Side -> a value for each row, as bars that lie."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(0.8 + 0.22 * len(rows) * max(len(sides), 1))
        size = 0.8 / max(len(sides), 1)
        for number, (side, values) in enumerate(sides.items()):
            places = [row + (number - (len(sides) - 1) / 2) * size for row in range(len(rows))]
            axes.barh(places, values, height=size, label=side, color=COLOURS[number])
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel(x)
        axes.invert_yaxis()
        if len(sides) > 1:
            axes.legend()
        return _svg(figure, title)
