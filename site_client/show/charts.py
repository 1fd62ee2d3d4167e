"""The common ground of all report pictures: page colours, labels, and matplotlib figures as inline SVG.

A picture's SVG holds real text in the page's own font, so it stays sharp, can be searched and copied, and follows the
reader's zoom. matplotlib draws with the metrics of DejaVu Sans, which is wider than nearly every system font: labels
that fit there fit on the page.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK: Final = "#1c2733"
QUIET: Final = "#5a6675"
RULE: Final = "#d9dee4"
PALE: Final = "#eef1f4"

# Okabe and Ito's palette, darkened where it would be too faint on white; told apart under the common colour-vision
# deficiencies, and every picture also separates its series by marker, order or label.
BLUE: Final = "#0a66b0"
VERMILION: Final = "#c8500a"
GREEN: Final = "#00876a"
AMBER: Final = "#e3a008"
SKY: Final = "#56a9dc"
PURPLE: Final = "#a8588c"
GREY: Final = "#7b8794"
CATEGORIES: Final = (BLUE, AMBER, GREEN, PURPLE, SKY, VERMILION, "#2f3e4e", "#b9a44c")

WIDE: Final = 880  # [CSS pixels] of a picture over the full column
MEDIUM: Final = 580  # [CSS pixels] of a picture beside its caption
NARROW: Final = 424  # [CSS pixels] of a picture that shares its row

_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names may hold dollar signs
    "figure.dpi": 72,  # one point of the drawing is one CSS pixel of the page
    "figure.facecolor": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.edgecolor": RULE,
    "axes.labelcolor": QUIET,
    "axes.labelsize": 11.5,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 12,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.pad": 8,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "legend.handlelength": 1.1,
    "legend.columnspacing": 1.6,
    "legend.borderaxespad": 0,
}
_UNITS: Final = ((1e9, "billion"), (1e6, "million"))


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure of the page.

    Attributes:
        key: unique over the page; prefix of every id in the SVG.
        title: what is shown, as a heading.
        label: what is shown, in a sentence for people who cannot see it.
        conclusion: one plain sentence on what to conclude, computed from the numbers.
        svg: the drawing.
        width: natural width [CSS pixels].
    """

    key: str
    title: str
    label: str
    conclusion: str
    svg: Markup
    width: int


def picture(
    key: str,
    *,
    title: str,
    label: str,
    conclusion: str,
    size: tuple[float, float],
    draw: Callable[[Figure], None],
) -> Picture:
    """Let ``draw`` fill a figure and return it as a picture; equal inputs give equal bytes.

    Args:
        key: unique over the page, letters and hyphens.
        title: heading of the figure.
        label: the picture in words, for screen readers.
        conclusion: what to conclude from it.
        size: width and height [CSS pixels].
        draw: called once with an empty figure whose layout keeps labels inside the frame.
    """
    width, height = size
    # rc_context undoes its settings, so the caller's own matplotlib defaults are left as they were.
    with rc_context({**_STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # measured only; the browser's fonts draw the text
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = _inline(buffer.getvalue(), key=key, label=label)
    return Picture(key=key, title=title, label=label, conclusion=conclusion, svg=svg, width=round(width))


def _inline(document: bytes, *, key: str, label: str) -> Markup:
    """Turn matplotlib's SVG file into an element for an HTML page: unique ids, page font, no foreign style or links."""
    root = ElementTree.fromstring(document)  # noqa: S314 - written by matplotlib a moment ago
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):  # a style element would restyle the whole page
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        element.attrib.clear()
        for name, value in attributes.items():
            if name == "id":
                value = f"{key}-{value}"
            elif name == "href":
                value = f"#{key}-{value.removeprefix('#')}"
            elif name == "style":
                value = re.sub(r"font-family:[^;]*;?\s*", "", value)
            element.set(name, value.replace("url(#", f"url(#{key}-"))
        if element.tag != "text" and element.text is not None and not element.text.strip():
            element.text = None
        element.tail = None
    view_box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"viewBox": view_box, "role": "img", "aria-label": label, "focusable": "false"})
    # Serialised with every <, > and & of a name escaped, hence safe to place in the page.
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))  # noqa: S704


def tidy(name: str) -> str:
    """Return ``name`` on one line and without unprintable characters, which SVG cannot hold; "(no name)" if empty."""
    printable = "".join(c if c.isprintable() else " " for c in name)
    return " ".join(printable.split()) or "(no name)"


def short_names(names: Iterable[str], limit: int = 26) -> dict[str, str]:
    """Shorten long names in the middle, where hospital names differ least; the results stay distinct.

    Args:
        names: the full names.
        limit: longest result, a counter for otherwise equal results aside [characters].
    """
    shortened: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        label = tidy(name)
        if len(label) > limit:
            head = (limit - 1) * 3 // 5
            label = f"{label[:head].rstrip()}…{label[head + 1 - limit :].lstrip()}"
        candidate, number = label, 1
        while candidate in taken:
            number += 1
            candidate = f"{label} ({number})"
        taken.add(candidate)
        shortened[name] = candidate
    return shortened


def count(number: float) -> str:
    """Write a count for people: 950, 12,400, 3.25 million."""
    for size, unit in _UNITS:
        if abs(number) >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"


def plural(number: int, noun: str) -> str:
    """Write a count with its noun: 1 patient, 2 patients."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def size(number: float) -> str:
    """Write a number of bytes in decimal units: 830 B, 4.2 MB."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(number) >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:.0f} B"


def duration(seconds: float) -> str:
    """Write a duration: 0.4 s, 38 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(part: float, whole: float) -> str:
    """Write a share: 12 %, 0.4 %; a dash where there is no whole."""
    if not whole:
        return "-"
    share = 100 * part / whole
    return f"{share:.1f} %" if 0 < share < 10 or 99 < share < 100 else f"{share:.0f} %"


def words(name: str) -> str:
    """Turn an identifier such as ``too_short`` into words."""
    return tidy(name.replace("_", " ").replace("-", " "))


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Leave out what cannot be drawn: values that are not finite."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def rows(axes: Axes, labels: list[str], *, grid: bool = True) -> None:
    """Make ``axes`` a list of rows, the first one on top, with ``labels`` at the left."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.spines.bottom.set_visible(False)
    axes.grid(visible=grid, axis="x")
