"""How training went: loss against tokens, bits per byte by round, bytes on the wire, time by stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from simulations.chart_headline import COLOURS, CORPUS_NAMES, KIND_NAMES, MARKERS, Kind, by_corpus, kind
from simulations.results import Arm, Corpus, Results
from site_client.show.charts import (
    BLUE,
    GREY,
    NARROW,
    PURPLE,
    QUIET,
    SKY,
    WIDE,
    Picture,
    count,
    duration,
    finite,
    percent,
    picture,
    plural,
    rows,
    short_names,
    size,
    words,
)

_POINTS = 120  # more points per curve than this are averaged: finer than the eye sees, and the page stays small
_MARKED = 12  # curves of up to so many points show each of them
_NAMED_LINES = 8  # more hospitals than this are drawn unnamed, but for the best and the worst
_REPORTED = "all that reported"  # the curve over hospitals; small ones withhold their numbers
_KINDS: tuple[Kind, ...] = ("site", "pooled", "private", "federated")  # drawn in this order, the federated model on top


def loss_chart(results: Results) -> Picture | None:
    """Draw training loss against tokens, one panel per training corpus; None without any curve."""
    groups = {corpus: curves for corpus, arms in by_corpus(results).items() if (curves := _curves(arms))}
    if not groups:
        return None
    shown = [k for k in reversed(_KINDS) if any(k == curve[0] for curves in groups.values() for curve in curves)]

    def draw(figure: Figure) -> None:
        for axes, (corpus, curves) in zip(_panels(figure, len(groups)), groups.items(), strict=True):
            axes.set_title(f"Trained on {CORPUS_NAMES[corpus]}")
            for which, tokens, loss in sorted(curves, key=lambda curve: _KINDS.index(curve[0])):
                marker = MARKERS[which] if len(tokens) <= _MARKED else ""
                width = 1.0 if which == "site" else 2.0
                axes.plot(tokens, loss, color=COLOURS[which], marker=marker, markersize=4, linewidth=width)
            axes.set_xlabel("training tokens")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _compact(x)))
            axes.set_ylabel("loss (nats per token)")
        handles = [Line2D([], [], color=COLOURS[k], linewidth=2, label=KIND_NAMES[k]) for k in shown]
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))

    ends = [(loss[-1], which) for curves in groups.values() for which, _, loss in curves]
    low, high = min(ends)[0], max(ends)[0]
    falling = sum(loss[-1] < loss[0] for curves in groups.values() for _, _, loss in curves)
    return picture(
        "loss",
        title="Training loss",
        label=f"Training loss against tokens of {plural(len(ends), 'model')}, one panel per training corpus.",
        conclusion=f"The loss fell for {falling} of {plural(len(ends), 'model')}, and ended between {low:.2f} and "
        f"{high:.2f} nats per token; losses on different corpora are not comparable.",
        size=(WIDE, 40 + 250 * math.ceil(len(groups) / 2)),
        draw=draw,
    )


def rounds_chart(results: Results) -> Picture | None:
    """Draw bits per byte on validation notes by federated round, by hospital and over all; None without rounds."""
    series = {corpus: lines for corpus, arm in _federated(results).items() if (lines := _by_site(arm))}
    if not series:
        return None
    names = short_names((site for lines in series.values() for site in lines), limit=18)

    def draw(figure: Figure) -> None:
        panels = _panels(figure, len(series))
        for axes, (corpus, lines) in zip(panels, series.items(), strict=True):
            axes.set_title(f"Trained on {CORPUS_NAMES[corpus]}")
            for site, points in sorted(lines.items(), key=lambda item: item[0] == "all"):
                colour, width = (BLUE, 2.4) if site == "all" else (GREY, 1.0)
                marker = "o" if len(points) <= _MARKED else ""
                axes.plot(
                    *zip(*points, strict=True), color=colour, linewidth=width, marker=marker, markersize=width + 2
                )
            axes.set_xlabel("round (model that entered it)")
            axes.set_ylabel("bits per byte")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.margins(x=0.05, y=0.08)
        for axes, lines in zip(panels, series.values(), strict=True):  # only now is the common scale known
            _name_lines(axes, {site: points[-1][1] for site, points in lines.items()}, names)

    corpus, lines = next(iter(series.items()))
    first = next(iter(lines))
    points = lines.get("all") or lines[first]
    whose = "all hospitals that reported" if "all" in lines else names[first]
    verb = "improves" if points[-1][1] < points[0][1] else "does not improve"
    return picture(
        "rounds",
        title="Bits per byte by round",
        label="Bits per byte on validation notes by federated round, a line per hospital that reported and one over "
        "all of them.",
        conclusion=f"Trained on {CORPUS_NAMES[corpus]}, the federated model {verb} over the rounds: from "
        f"{points[0][1]:.3f} to {points[-1][1]:.3f} bits per byte on the validation notes of {whose}. A hospital with "
        "few validation patients does not report.",
        size=(WIDE, 20 + 260 * math.ceil(len(series) / 2)),
        draw=draw,
    )


def wire_chart(results: Results) -> Picture | None:
    """Draw the bytes that crossed the hospitals' borders per round, averaged over federated arms."""
    arms = [arm for arm in _federated(results).values() if arm.rounds]
    if not arms:
        return None
    numbers = sorted({facts.round for arm in arms for facts in arm.rounds})
    of_round = {n: [facts for arm in arms for facts in arm.rounds if facts.round == n] for n in numbers}
    up = [sum(f.bytes_up for f in facts) / len(facts) for facts in of_round.values()]
    down = [sum(f.bytes_down for f in facts) / len(facts) for facts in of_round.values()]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.bar([n - 0.2 for n in numbers], up, width=0.36, color=PURPLE, label="up (updates)")
        axes.bar([n + 0.2 for n in numbers], down, width=0.36, color=SKY, label="down (models)")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: size(y)))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(visible=True, axis="y")
        axes.set_xlabel("round")
        axes.set_xlim(numbers[0] - 0.8, numbers[-1] + 0.8)
        figure.legend(loc="outside upper left", ncols=2)

    return picture(
        "wire",
        title="Bytes on the wire",
        label=f"Bytes up and down in each of {plural(len(numbers), 'round')}, all hospitals together.",
        conclusion=f"A round moves {size(results.wire.bytes_up_per_round)} up and "
        f"{size(results.wire.bytes_down_per_round)} down, all hospitals together"
        f"{f', averaged over {len(arms)} federated models' if len(arms) > 1 else ''}.",
        size=(NARROW, 290),
        draw=draw,
    )


def time_chart(results: Results) -> Picture | None:
    """Draw the wall time of each stage, in the order in which the stages ran."""
    stages = finite(results.timing_seconds)
    if not stages:
        return None
    longest, total = max(stages, key=lambda stage: stages[stage]), sum(stages.values())
    names = short_names((words(stage) for stage in stages), limit=20)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rows(axes, [names[words(stage)] for stage in stages], grid=False)
        axes.barh(range(len(stages)), list(stages.values()), height=0.62, color=GREY)
        axes.set_xticks([])
        axes.set_xlim(0, max(max(stages.values()), 1e-9) * 1.4)  # room for the number behind the longest bar
        for row, seconds in enumerate(stages.values()):
            axes.annotate(
                duration(seconds), (seconds, row), (6, 0), textcoords="offset points", va="center_baseline", size=11.5
            )

    return picture(
        "time",
        title="Time by stage",
        label=f"Wall time of {plural(len(stages), 'stage')}.",
        conclusion=f"The run took {duration(total)}; {words(longest)} took {percent(stages[longest], total)} of it.",
        size=(NARROW, max(120, 40 + 28 * len(stages))),
        draw=draw,
    )


def _federated(results: Results) -> dict[Corpus, Arm]:
    return {
        corpus: arm for corpus, arms in by_corpus(results).items() for arm in reversed(arms) if kind(arm) == "federated"
    }


def _curves(arms: Sequence[Arm]) -> list[tuple[Kind, list[float], list[float]]]:
    curves = []
    for arm in arms:
        points = [(tokens, loss) for tokens, loss in arm.loss_curve if math.isfinite(loss)]
        if points:
            step = math.ceil(len(points) / _POINTS)
            bins = [points[start : start + step] for start in range(0, len(points), step)]
            means = [[sum(axis) / len(axis) for axis in zip(*part, strict=True)] for part in bins]
            curves.append((kind(arm), [mean[0] for mean in means], [mean[1] for mean in means]))
    return curves


def _by_site(arm: Arm) -> dict[str, list[tuple[int, float]]]:
    lines: dict[str, list[tuple[int, float]]] = {}
    for facts in arm.rounds:
        for site, value in finite(facts.bits_per_byte).items():
            lines.setdefault(site, []).append((facts.round, value))
    return lines


def _panels(figure: Figure, number: int) -> list[Axes]:
    """Return ``number`` panels, two in a row, with equal axes; a last odd one stays alone."""
    # The space keeps a panel's title off the axis label of the panel above.
    figure.set_layout_engine("constrained", hspace=0.09, wspace=0.05)
    grid = figure.subplots(math.ceil(number / 2), 2, sharex=True, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.flat)
    for spare in panels[number:]:
        spare.remove()
    for axes in panels[:number]:
        axes.grid(visible=True, axis="y")
        axes.tick_params(labelbottom=True, labelleft=True)
    return panels[:number]


def _name_lines(axes: Axes, ends: dict[str, float], names: dict[str, str]) -> None:
    """Write each line's name at its end, moved apart where lines end close together."""
    sites = sorted((site for site in ends if site != "all"), key=lambda site: ends[site])
    if len(sites) > _NAMED_LINES:
        sites = [sites[0], sites[-1]]
    named = sorted([*sites, *(["all"] if "all" in ends else [])], key=lambda site: ends[site])
    low, high = axes.get_ylim()
    gap = 0.085 * (high - low)  # one line of text
    # Names pushed upwards and names pushed downwards both keep the gap, and so does their mean, which strays least.
    pushed_up = _spread([ends[site] for site in named], gap)
    pushed_down = [-height for height in reversed(_spread([-ends[site] for site in reversed(named)], gap))]
    heights = [(up + down) / 2 for up, down in zip(pushed_up, pushed_down, strict=True)]
    sunk = max(0.0, low - heights[0])  # the stack reaches below the panel, where the ticks are
    for site, height in zip(named, heights, strict=True):
        axes.annotate(
            _REPORTED if site == "all" else names[site],
            (1.02, height + sunk),
            xycoords=("axes fraction", "data"),
            va="center_baseline",
            size=11,
            color=BLUE if site == "all" else QUIET,
            weight="bold" if site == "all" else "normal",
        )


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Raise ascending heights, where needed, until neighbours are at least ``gap`` apart."""
    spread: list[float] = []
    for height in heights:
        spread.append(max(height, spread[-1] + gap) if spread else height)
    return spread


def _compact(number: float) -> str:
    """Write a tick of an axis of tokens: 250k, 1.5M."""
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= scale:
            return f"{number / scale:.3g}{unit}"
    return count(number)
