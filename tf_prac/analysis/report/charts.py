"""SVG charts in the colors of the page: light, dark or printed. Plain Python.

A chart is `WIDTH` units wide and scales with the page. Lines are labeled at their ends instead of
in a legend, and every mark shows its numbers in a tooltip.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

from tf_prac.analysis.report.html import Html, tag
from tf_prac.analysis.report.numbers import short

WIDTH, HEIGHT = 380.0, 250.0
LEFT, TOP, BOTTOM = 42.0, 30.0, 40.0
LETTER_WIDTH = 6.3  # of labels
LABEL_HEIGHT = 14.0
MAX_NAME_LENGTH = 11  # letters of a name below bars
COLORS = 6
Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a chart, or the bars of one color.

    Attributes:
        label: text at the end of the line; "" for none.
        x, y: its points.
        color: number of a color of the page.
        style: "", "thin" or "dashed".
        opacity: 1 is opaque.
        marks: texts at some of its points, by index.
        dots: whether each point has a dot.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: int = 0
    style: str = ""
    opacity: float = 1.0
    marks: dict[int, str] = dataclasses.field(default_factory=dict)
    dots: bool = True


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        label: label with the unit.
        low, high: limits; None to use those of the data.
        log: whether the axis is logarithmic.
        inverted: whether values decrease along the axis.
        integer: whether ticks are integers only.
        formatter: function that formats a value.
    """

    label: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    inverted: bool = False
    integer: bool = False
    formatter: Callable[[float], str] = short


class _Scale:
    """Maps the values of an axis to coordinates of the chart."""

    def __init__(
        self,
        axis: Axis,
        values: Sequence[float],
        start: float,
        end: float,
        max_ticks: int,
        to_ticks: bool = True,
    ):
        low = min(values) if axis.low is None else axis.low
        high = max(values) if axis.high is None else axis.high
        if low == high:
            low, high = (low / 2, high * 2) if axis.log else (low - 0.5, high + 0.5)
        self.axis = axis
        self.ticks = _log_ticks(low, high, max_ticks) if axis.log else ticks(low, high, max_ticks)
        if axis.integer:
            self.ticks = [tick for tick in self.ticks if tick == round(tick)]
        if to_ticks and not axis.log:
            low = min(low, self.ticks[0]) if axis.low is None else low
            high = max(high, self.ticks[-1]) if axis.high is None else high
        self.low, self.high = (math.log(low), math.log(high)) if axis.log else (low, high)
        self.start, self.end = (end, start) if axis.inverted else (start, end)

    def __call__(self, value: float) -> float:
        value = math.log(value) if self.axis.log else value
        fraction = (value - self.low) / (self.high - self.low)
        return self.start + fraction * (self.end - self.start)


def line_chart(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    about: str,
    references: Sequence[tuple[float, str]] = (),
) -> Html:
    """Returns a line chart.

    Args:
        series: the lines; later ones are drawn on top.
        x, y: the axes.
        about: description of the chart for screen readers.
        references: values and labels of dotted horizontal lines.
    """
    labels = max((len(each.label) for each in series), default=0)
    right = WIDTH - max(14.0, min(labels * LETTER_WIDTH + 12, 130))
    xs = [value for each in series for value in each.x]
    ys = [value for each in series for value in each.y] + [height for height, _ in references]
    x_scale = _Scale(x, xs, LEFT, right, 6, to_ticks=False)
    y_scale = _Scale(y, ys, HEIGHT - BOTTOM, TOP, 5)
    lines = [_line(each, x_scale, y_scale) for each in series]
    paths = [[(x_scale(x), y_scale(y)) for x, y in zip(e.x, e.y, strict=True)] for e in series]
    points = [point for path in paths for point in _points_along(path)]
    ends = []
    for each, path in zip(series, paths, strict=True):
        if each.label and path:
            x_label = _label_start(path[-1], len(each.label) * LETTER_WIDTH, right, points)
            ends.append((x_label, path[-1][1] + 4, each))
    return _svg(
        about,
        _frame(x_scale, y_scale, right),
        lines,
        [_reference(*each, y_scale, right, points) for each in references],
        _end_labels(ends),
    )


def bar_chart(
    names: Sequence[str],
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    about: str,
    references: Sequence[tuple[float, str]] = (),
) -> Html:
    """Returns a bar chart: one group for each name, with one bar for each series.

    Args:
        names: labels of the groups.
        series: heights `y` at `x`, which are indices of `names`; the series have different colors
            and a legend.
        x, y: the axes; of x, only the label is used.
        about: description of the chart for screen readers.
        references: values and labels of dotted horizontal lines.
    """
    right = WIDTH - 10
    ys = [value for each in series for value in each.y] + [height for height, _ in references]
    y_scale = _Scale(dataclasses.replace(y, low=0), ys, HEIGHT - BOTTOM, TOP, 5)
    step = (right - LEFT) / max(len(names), 1)
    positions = [index for each in series for index in each.x]
    colors = sorted({each.color for each in series}) if len(set(positions)) < len(positions) else []
    width = min(0.74 * step, 46.0) / max(len(colors), 1)
    bars, tops = [], []
    for each in series:
        shift = (colors.index(each.color) - (len(colors) - 1) / 2) * width if colors else 0.0
        for index, height in zip(each.x, each.y, strict=True):
            middle = LEFT + step * (index + 0.5) + shift
            title = f"{names[int(index)]}: {y.formatter(height)} {each.label}".rstrip()
            tops.append((middle, y_scale(height)))
            bars.append(_bar(middle, width, y_scale(height), y_scale(0), each.color, title))
    below = _names(names, [LEFT + step * (n + 0.5) for n in range(len(names))], step)
    words = any(name[:1].isalpha() for name in names)
    frame = _frame(None, y_scale, right, "" if words else x.label)
    legend = _legend(series if len(series) > 1 else [], right)
    return _svg(
        about,
        frame,
        bars,
        [_reference(*each, y_scale, right, tops) for each in references],
        below,
        legend,
    )


def ticks(low: float, high: float, max_ticks: int) -> list[float]:
    """Returns about `max_ticks` round numbers that cover the range from low to high.

    Example:

        >>> ticks(0.3, 9.2, 5)
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    rough = (high - low) / max_ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _log_ticks(low: float, high: float, max_ticks: int) -> list[float]:
    """Returns round numbers between low and high: several in each decade, or only the decades."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    chosen: list[float] = []
    for digits in (range(1, 10), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        candidates = [digit * 10.0**decade for decade in decades for digit in digits]
        chosen = [tick for tick in candidates if low * 0.999 <= tick <= high * 1.001]
        if len(chosen) <= max_ticks + 1:
            break
    return chosen or [low, high]


def _svg(about: str, *parts: object) -> Html:
    box = f"0 0 {WIDTH:g} {HEIGHT:g}"
    return tag("svg", *parts, viewBox=box, role="img", aria_label=about)


def _frame(x_scale: _Scale | None, y_scale: _Scale, right: float, x_label: str = "") -> list[Html]:
    bottom = HEIGHT - BOTTOM
    parts = [_text(2, 13, y_scale.axis.label, "axis", "start")]
    for tick in _visible_ticks(y_scale):
        y = y_scale(tick)
        parts.append(tag("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(_text(LEFT - 6, y + 4, y_scale.axis.formatter(tick), "tick", "end"))
    parts.append(tag("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="base"))
    if x_scale is not None:
        x_label = x_scale.axis.label
        for tick in _visible_ticks(x_scale):
            text = x_scale.axis.formatter(tick)
            parts.append(_text(x_scale(tick), bottom + 15, text, "tick", "middle"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 6, x_label, "axis", "middle"))
    return parts


def _visible_ticks(scale: _Scale) -> list[float]:
    low, high = sorted((scale.start, scale.end))
    return [tick for tick in scale.ticks if low - 0.5 <= scale(tick) <= high + 0.5]


def _line(series: Series, x_scale: _Scale, y_scale: _Scale) -> Html:
    points = [(x_scale(x), y_scale(y)) for x, y in zip(series.x, series.y, strict=True)]
    parts: list[Html] = []
    if len(points) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(tag("polyline", points=path, class_=f"s{series.color} {series.style}".strip()))
    format_x, format_y = x_scale.axis.formatter, y_scale.axis.formatter
    for number, (x, y) in enumerate(points):
        big = number in series.marks
        if not (series.dots or big):
            continue
        text = f"{series.label} {format_x(series.x[number])}: {format_y(series.y[number])}".strip()
        radius = 4.5 if big else 3.0
        title = tag("title", text)
        parts.append(tag("circle", title, cx=x, cy=y, r=radius, class_=f"f{series.color}"))
        if big and series.marks[number]:
            parts.append(_text(x, y - 9, series.marks[number], "mark", "middle"))
    opacity = None if series.opacity == 1 else f"{series.opacity:.2f}"
    return tag("g", parts, opacity=opacity)


def _bar(middle: float, width: float, top: float, base: float, color: int, title: str) -> Html:
    return tag(
        "rect",
        tag("title", title),
        x=middle - width / 2,
        y=top,
        width=max(width - 1, 0.8),
        height=max(base - top, 0.0),
        class_=f"f{color}",
    )


def _reference(
    height: float, label: str, y_scale: _Scale, right: float, points: Sequence[Point]
) -> list[Html]:
    """Returns a dotted line, with its label where it covers the fewest points."""
    y, width = y_scale(height), len(label) * LETTER_WIDTH
    positions = [
        (x, base, anchor)
        for base in (y - 5, y + 13)
        for x, anchor in ((right - 2, "end"), (LEFT + 4, "start"))
    ]

    def covered(position: tuple[float, float, str]) -> int:
        x, base, anchor = position
        start = x - width if anchor == "end" else x
        return sum(
            start - 6 <= px <= start + width + 6 and base - 15 <= py < base + 4 for px, py in points
        )

    line = tag("line", x1=LEFT, x2=right, y1=y, y2=y, class_="reference")
    x, base, anchor = min(positions, key=covered)
    return [line, _text(x, base, label, "mark", anchor)]


def _points_along(path: Sequence[Point]) -> list[Point]:
    """Returns the points of a line and interpolated points between them."""
    between = [
        (x + (to_x - x) * n / 10, y + (to_y - y) * n / 10)
        for (x, y), (to_x, to_y) in itertools.pairwise(path)
        for n in range(10)
    ]
    return [*between, *path[-1:]]


def _label_start(end: Point, width: float, right: float, points: Sequence[Point]) -> float:
    """Returns where the label of a line starts: at its end or, if crossed, right of all lines."""
    x, y = end[0] + 7, end[1]
    crossed = any(x <= px <= x + width and abs(py - y) < LABEL_HEIGHT for px, py in points)
    return right + 7 if crossed else x


def _end_labels(ends: Sequence[tuple[float, float, Series]]) -> list[Html]:
    """Returns labels at the ends of lines, moved apart if they overlap, inside the chart."""
    placed: list[tuple[float, float, Series]] = []
    for x, y, series in sorted(ends, key=lambda end: end[1]):
        y = max(y, placed[-1][1] + LABEL_HEIGHT) if placed else y
        placed.append((x, y, series))
    lowest = HEIGHT - BOTTOM - 4  # above the line of the axis
    for n in reversed(range(len(placed))):
        x, y, series = placed[n]
        placed[n] = (x, min(y, lowest), series)
        lowest = placed[n][1] - LABEL_HEIGHT
    return [_text(x, y, s.label, f"label t{s.color}", "start") for x, y, s in placed]


def _names(names: Sequence[str], centers: Sequence[float], step: float) -> list[Html]:
    """Returns the labels of groups of bars: words are slanted, and some omitted to save space."""
    words, low = any(name[:1].isalpha() for name in names), HEIGHT - BOTTOM + 15
    longest = max((len(name) for name in names), default=0)
    width = LABEL_HEIGHT if words else longest * LETTER_WIDTH + 2
    every = max(1, math.ceil(width / step))
    below = []
    for x, name in list(zip(centers, names, strict=True))[::every]:
        if words:
            name = name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "…"
            transform = f"rotate(-30 {x + 5:.1f} {low - 3:g})"
            below.append(_text(x + 5, low - 3, name, "tick", "end", transform))
        else:
            below.append(_text(x, low, name, "tick", "middle"))
    return below


def _legend(series: Sequence[Series], right: float) -> list[Html]:
    """Returns names with squares of their colors, right-aligned above the chart."""
    parts: list[Html] = []
    x = right
    for each in reversed(series):
        x -= len(each.label) * LETTER_WIDTH
        parts.append(_text(x, 13, each.label, f"label t{each.color}", "start"))
        x -= 15
        parts.append(tag("rect", x=x + 1, y=4.0, width=10.0, height=10.0, class_=f"f{each.color}"))
        x -= 12
    return parts


def _text(
    x: float, y: float, text: str, kind: str, anchor: str, transform: str | None = None
) -> Html:
    anchor_or_none = None if anchor == "start" else anchor
    return tag(
        "text",
        text,
        x=float(x),
        y=float(y),
        class_=kind,
        text_anchor=anchor_or_none,
        transform=transform,
    )
