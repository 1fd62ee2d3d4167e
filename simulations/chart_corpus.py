"""What the hospitals trained on: tokens and note types by site, and what the quality gates let through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from simulations.results import Results
from site_client.show.charts import (
    AMBER,
    CATEGORIES,
    GREEN,
    GREY,
    NARROW,
    PALE,
    VERMILION,
    Picture,
    count,
    percent,
    picture,
    plural,
    rows,
    short_names,
    tidy,
    words,
)

_ROW = 26  # [CSS pixels]
_TYPES = 5  # note types with a colour of their own; rarer ones are drawn together


def tokens_chart(results: Results) -> Picture | None:
    """Draw real and rephrased training tokens by hospital."""
    sites = results.sites
    real, synthetic = [site.real_tokens for site in sites], [site.synthetic_tokens for site in sites]
    if not sites:
        return None
    names = short_names((site.name for site in sites), limit=20)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rows(axes, [names[site.name] for site in sites])
        axes.barh(range(len(sites)), real, height=0.62, color=GREEN, label="real")
        axes.barh(range(len(sites)), synthetic, left=real, height=0.62, color=AMBER, label="rephrased")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x).replace(" million", "M")))
        axes.set_xlabel("training tokens")
        figure.legend(loc="outside upper left", ncols=2)

    totals = [r + s for r, s in zip(real, synthetic, strict=True)]
    conclusion = f"The training notes hold {count(sum(real))} real and {count(sum(synthetic))} rephrased tokens"
    if len(sites) > 1 and min(totals) > 0:
        conclusion += f"; the largest hospital has {max(totals) / min(totals):.1f} times the smallest one's text"
    return picture(
        "tokens",
        title="Training text by hospital",
        label=f"Real and rephrased training tokens of {plural(len(sites), 'hospital')}, as stacked bars.",
        conclusion=f"{conclusion}.",
        size=(NARROW, 92 + _ROW * len(sites)),
        draw=draw,
    )


def note_types_chart(results: Results) -> Picture | None:
    """Draw the mix of note types of each hospital as shares; None where no note has a type."""
    totals: Counter[str] = Counter()
    for site in results.sites:
        totals.update(site.note_types)
    if not +totals:
        return None
    main = [name for name, _ in sorted((+totals).items(), key=lambda item: (-item[1], item[0]))[:_TYPES]]
    names = short_names(main, limit=20)
    shares = {names[name]: [_share(site.note_types, [name]) for site in results.sites] for name in main}
    if rest := [name for name in totals if name not in main]:
        shares[f"{len(rest)} other"] = [_share(site.note_types, rest) for site in results.sites]
    sites = short_names((site.name for site in results.sites), limit=20)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rows(axes, list(sites.values()), grid=False)
        left = [0.0] * len(results.sites)
        for index, (label, parts) in enumerate(shares.items()):
            colour = CATEGORIES[index] if index < len(main) else GREY
            axes.barh(range(len(left)), parts, left=left, height=0.62, color=colour, label=label, edgecolor="white")
            left = [start + part for start, part in zip(left, parts, strict=True)]
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        figure.legend(loc="outside upper left", ncols=2)

    top, spread = next(iter(shares.items()))
    return picture(
        "note-types",
        title="Note types by hospital",
        label=f"Shares of {plural(len(totals), 'note type')} in {plural(len(results.sites), 'hospital')}.",
        conclusion=f"The most frequent type, “{top}”, makes up {percent(min(spread), 1)} to "
        f"{percent(max(spread), 1)} of a hospital's notes."
        if len(spread) > 1
        else f"The most frequent type, “{top}”, makes up {percent(spread[0], 1)} of the notes.",
        size=(NARROW, 80 + 20 * ((len(shares) + 1) // 2) + _ROW * len(results.sites)),
        draw=draw,
    )


def gates_chart(results: Results) -> Picture | None:
    """Draw how many rephrasings each quality gate rejected, and how many passed all; None when none was judged."""
    gates = results.gates
    if not gates.judged:
        return None
    rejected = sorted(gates.rejected.items(), key=lambda item: (-item[1], item[0]))
    names = short_names((words(gate) for gate, _ in rejected), limit=22)
    labels = ["accepted", *(names[words(gate)] for gate, _ in rejected)]
    values = [gates.accepted, *(number for _, number in rejected)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rows(axes, labels, grid=False)
        axes.barh(range(len(values)), values, height=0.62, color=[GREEN] + [VERMILION] * len(rejected))
        axes.set_xticks([])
        axes.set_xlim(0, max(*values, 1) * 1.5)  # room for the number behind the longest bar
        for row, number in enumerate(values):
            text = f"{number:,} ({percent(number, gates.judged)})"
            axes.annotate(text, (number, row), (6, 0), textcoords="offset points", va="center_baseline", size=11.5)

    conclusion = f"{percent(gates.accepted, gates.judged)} of {plural(gates.judged, 'rephrasing')} passed every gate"
    if rejected and rejected[0][1]:
        conclusion += f"; “{words(rejected[0][0])}” rejected the most"
    return picture(
        "gates",
        title="Verdicts of the quality gates",
        label=f"Accepted rephrasings, and rejected ones by {plural(len(rejected), 'gate')}.",
        conclusion=f"{conclusion}.",
        size=(NARROW, 50 + _ROW * len(labels)),
        draw=draw,
    )


def acceptance_chart(verdicts: Mapping[str, Mapping[str, int]], by: Literal["hospital", "arm"]) -> Picture | None:
    """Draw the share of accepted rephrasings by hospital, or by arm where there are several."""
    judged = {name: verdict for name, verdict in verdicts.items() if verdict.get("judged")}
    if not judged or (by == "arm" and len(judged) < 2):
        return None
    names = short_names(judged, limit=20)
    shares = {site: verdict.get("accepted", 0) / verdict["judged"] for site, verdict in judged.items()}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rows(axes, [names[site] for site in shares], grid=False)
        axes.barh(range(len(shares)), [1.0] * len(shares), height=0.62, color=PALE)
        axes.barh(range(len(shares)), list(shares.values()), height=0.62, color=GREEN)
        axes.set_xlim(0, 1.16)
        axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        for row, share in enumerate(shares.values()):
            axes.annotate(percent(share, 1), (1.02, row), va="center_baseline", size=11.5)

    low, high = min(shares, key=lambda s: shares[s]), max(shares, key=lambda s: shares[s])
    return picture(
        f"acceptance-by-{by}",
        title=f"Acceptance by {by}",
        label=f"Share of accepted rephrasings of {plural(len(shares), by)}.",
        conclusion=f"The gates accepted {percent(shares[low], 1)} of the rephrasings."
        if low == high
        else f"Acceptance runs from {percent(shares[low], 1)} ({tidy(low)}) to {percent(shares[high], 1)} "
        f"({tidy(high)}).",
        size=(NARROW, 56 + _ROW * len(shares)),
        draw=draw,
    )


def _share(numbers: dict[str, int], names: list[str]) -> float:
    whole = sum(numbers.values())
    return sum(numbers.get(name, 0) for name in names) / whole if whole else 0.0
