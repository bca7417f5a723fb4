"""Small plots as SVG for a page: no fonts of their own, the page's text colour, the same bytes each time."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#3b82c4", "#d97c26", "#3a9d5d")  # to be told apart on white and on black, and by most colour-blind people
INK = "#000000"  # replaced by the page's text colour
SIZE = (3.4, 2.2)  # inches


@dataclass(frozen=True)
class Plot:
    """An SVG, the line below it, and what it shows for those who cannot see it."""

    svg: str
    caption: str
    alt: str


Interval = tuple[float, float, float]  # value, low, high


def draw_plot(name: str, caption: str, alt: str, axes: tuple[str, str], draw: Callable[["Axes"], None]) -> Plot:
    """A plot by its name, which is another for each plot of a page, and the words on its axes."""
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False, "font.size": 8}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "axes.axisbelow": True}
    style |= {"lines.linewidth": 1.4, "lines.markersize": 3.5, "axes.linewidth": 0.6}
    out = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the user's own style is for the user's own plots
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=SIZE, layout="constrained")
        plot = figure.add_subplot()
        plot.grid(color=INK, alpha=0.12, linewidth=0.5)
        plot.set_xlabel(axes[0])
        plot.set_ylabel(axes[1])
        draw(plot)
        none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=none)
    return Plot(inline(out.getvalue()), caption, alt)


def inline(svg: str) -> str:
    """matplotlib's SVG as part of an HTML page: without names that nothing asks for, fonts, and digits no eye sees."""
    root = ElementTree.fromstring(svg)
    references = set(re.findall(r"#([\w-]+)", svg))
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag.endswith("}style")]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        element.tail = None
        if element.tag not in ("text", "tspan"):
            element.text = None
        attributes = {key.partition("}")[2] or key: value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if key == "id" and value not in references or key in ("width", "height", "version") and element is root:
                continue
            value = re.sub(r"\s*font-family: [^;]*;?", "", value.replace(INK, "currentColor"))
            element.set(key, re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split())))
    return ElementTree.tostring(root, encoding="unicode")


def curve(name: str, caption: str, y: str, points: Sequence[tuple[float, float]], colour: int = 0) -> Plot:
    """A value by training step."""
    values = [v for _, v in points]
    alt = f"{caption}: from {values[0]:.4g} to {values[-1]:.4g} in {points[-1][0]:,.0f} steps"

    def draw(axes: "Axes") -> None:
        marker = "o" if len(points) < 15 else ""
        axes.plot([x for x, _ in points], values, color=COLOURS[colour], marker=marker)

    return draw_plot(name, caption, alt, ("step", y), draw)


def reliability(name: str, caption: str, groups: Sequence[Sequence[float]]) -> Plot:
    """Share of yes by probability of yes; groups: mean probability, share, weight."""
    shares = "; ".join(f"{p:.0%} said, {share:.0%} true" for p, share, _ in groups)

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.35, linestyle="--", linewidth=0.8)
        axes.plot([p for p, _, _ in groups], [s for _, s, _ in groups], color=COLOURS[0], marker="o")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)

    return draw_plot(name, caption, f"{caption}: {shares}", ("probability of yes", "share of yes"), draw)


def bars(
    name: str, caption: str, axes: tuple[str, str], ticks: Sequence[str], groups: Mapping[str, Sequence[Interval]]
) -> Plot:
    """Bars by tick, one colour per group, with their intervals if low is below high."""
    width = 0.8 / len(groups)
    alt = "; ".join(
        f"{g}: " + ", ".join(f"{t} {v[0]:.3g}" for t, v in zip(ticks, values, strict=True))
        for g, values in groups.items()
    )

    def draw(plot: "Axes") -> None:
        for n, (label, values) in enumerate(groups.items()):
            positions = [t + (n - (len(groups) - 1) / 2) * width for t in range(len(ticks))]
            plot.bar(positions, [v for v, _, _ in values], width * 0.9, color=COLOURS[n], label=label)
            for position, (_, low, high) in zip(positions, values, strict=True):
                if low < high:
                    plot.plot([position, position], [low, high], color=INK, linewidth=0.8)
        plot.set_xticks(range(len(ticks)), ticks)
        plot.grid(visible=False, axis="x")
        if len(groups) > 1:
            plot.legend(fontsize=7)

    return draw_plot(name, caption, f"{caption}: {alt}", axes, draw)


def coverage(name: str, caption: str, shares: Sequence[float]) -> Plot:
    """Share of the catalogue in any list, by the length of the lists."""
    alt = f"{caption}: {shares[0]:.1%} in lists of 1, {shares[-1]:.1%} in lists of {len(shares)}"

    def draw(axes: "Axes") -> None:
        axes.plot(range(1, len(shares) + 1), shares, color=COLOURS[0])
        axes.set_xticks([k for k in (1, 5, 10, 15, 20) if k <= len(shares)])
        axes.set_ylim(bottom=0)

    return draw_plot(name, caption, alt, ("length of the lists", "share of the catalogue"), draw)
