"""From a matplotlib figure to an ``<svg>`` element that belongs to the page it stands in.

matplotlib draws with stand-in colours which become the page's own (CSS variables), and text stays text: so a
plot follows light and dark and takes the page's font. Every id gets the plot's name in front, as ids are
global in a page; no date goes in, so that equal figures give equal bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from runner.report.text import flat

INK, MUTED, LINE, STUDENT, TEACHER = "#0a0b0c", "#1a1b1c", "#2a2b2c", "#3a3b3c", "#4a4b4c"
_COLOURS = {INK: "ink", MUTED: "muted", LINE: "line", STUDENT: "accent", TEACHER: "grey"}

COLOUR = {"teacher": TEACHER, "student": STUDENT}

WIDTH = 4.0
"""Inches: 288 points, shown at about 480 pixels (8 points read as 13) and on a phone at 340 (as 9)."""

DASHED = (0, (4, 3))

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tutelage",
    "font.family": "DejaVu Sans",  # to measure with: the page's own fonts are no wider
    "font.size": 8,
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def draw(name: str, says: str, height: float, paint: Callable[[Figure], None]) -> str:
    """What ``paint`` puts on a figure ``height`` inches high, as SVG; ``says`` is its text alternative.

    ``name`` must be unique in the page: letters, digits and dashes.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.patch.set_visible(False)
        paint(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        # matplotlib only measures text here: a glyph that its font lacks is drawn by the reader's browser.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return _embedded(buffer.getvalue(), name, flat(says))


def percent_axis(axis: Any, whole: bool = True) -> None:
    """Shares from 0 to 1 as per cent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.{0 if whole else 1}f} %"))


def _embedded(svg: str, name: str, says: str) -> str:
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None, "matplotlib wrote no viewBox"
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    # Its metadata names outside addresses, and its style sheet would hold for the whole page.
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r"<[^>]+>", lambda tag: _own(tag.group(), name), body)
    label = says.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    # Inside an HTML page the parser knows these names: no namespace addresses are needed.
    return re.sub(r"\s*\n\s*", "\n", f'<svg {box.group()} role="img" aria-label="{label}">{body}').strip()


def _own(tag: str, name: str) -> str:
    """A tag with ids and colours of the page; what stands between tags is text and stays as it is."""
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', tag).replace("url(#", f"url(#{name}-")
    for stand_in, variable in _COLOURS.items():
        tag = tag.replace(stand_in, f"var(--{variable})")
    return tag
