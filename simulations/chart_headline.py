"""The finding of a run in words and in one picture: is the federated model worth it?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Literal

from matplotlib.figure import Figure

from simulations.results import PRIVATE, Arm, Corpus, Interval, Results
from site_client.show.charts import (
    AMBER,
    BLUE,
    GREY,
    INK,
    MEDIUM,
    QUIET,
    RULE,
    VERMILION,
    Picture,
    picture,
    plural,
    rows,
    short_names,
    tidy,
)

Kind = Literal["federated", "private", "pooled", "site"]
COLOURS: Final[dict[Kind, str]] = {"federated": BLUE, "private": AMBER, "pooled": VERMILION, "site": GREY}
MARKERS: Final[dict[Kind, str]] = {"federated": "o", "private": "^", "pooled": "D", "site": "s"}
KIND_NAMES: Final[dict[Kind, str]] = {
    "federated": "Federated",
    "private": "Federated, differentially private",
    "pooled": "Pooled (all notes in one place)",
    "site": "One hospital alone",
}
CORPUS_NAMES: Final[dict[Corpus, str]] = {
    "real+synthetic": "real and rephrased notes",
    "real": "real notes",
    "synthetic": "rephrased notes",
    "real-repeated": "real notes, repeated",
}
UNION: Final = "all"
_ORDER: Final[tuple[Kind, ...]] = ("federated", "private", "pooled", "site")


def kind(arm: Arm) -> Kind:
    """Tell who trained the arm: all hospitals together (privately or not), one place that holds all notes, or one."""
    if arm.name == PRIVATE:
        return "private"
    return arm.name if arm.name in ("federated", "pooled") else "site"  # type: ignore[return-value]


def arm_name(arm: Arm) -> str:
    """Return the arm's name for people; a hospital's own name for a single-site arm."""
    return {"federated": "Federated", PRIVATE: "Federated, private", "pooled": "Pooled"}.get(
        arm.name, arm.name.removeprefix("site:")
    )


def score(arm: Arm, evaluation_set: str) -> Interval | None:
    """Return the arm's bits per byte on a set; None where it was not measured or is not finite."""
    interval = arm.bits_per_byte.get(evaluation_set)
    if interval is None or not all(map(math.isfinite, (interval.value, interval.ci_low, interval.ci_high))):
        return None
    return interval


def by_corpus(results: Results) -> dict[Corpus, list[Arm]]:
    """Group the arms by training corpus; federated first, then pooled, then single hospitals in site order."""
    position = {site.name: index for index, site in enumerate(results.sites)}

    def rank(arm: Arm) -> tuple[int, int]:
        return _ORDER.index(kind(arm)), position.get(arm_name(arm), len(position))

    groups = {corpus: sorted((a for a in results.arms if a.corpus == corpus), key=rank) for corpus in CORPUS_NAMES}
    return {corpus: arms for corpus, arms in groups.items() if arms}


def headline_set(results: Results) -> str:
    """Return the evaluation set of the headline: the union of all held-out notes, else the first that was measured."""
    measured = dict.fromkeys(name for arm in results.arms for name in arm.bits_per_byte)
    return UNION if UNION in measured or not measured else next(iter(measured))


def main_corpus(results: Results) -> Corpus | None:
    """Return the corpus whose federated arm has most to be compared with; None without a federated arm."""
    groups = {
        corpus: {kind(arm) for arm in arms if score(arm, headline_set(results))}
        for corpus, arms in by_corpus(results).items()
    }
    federated = [corpus for corpus, kinds in groups.items() if "federated" in kinds]
    if not federated:
        return None
    best: Corpus = max(federated, key=lambda corpus: len(groups[corpus]))  # of equals the first in CORPUS_NAMES
    return best


def relative(value: float, reference: float) -> str:
    """Say how ``value`` compares with ``reference``: "2.7 % more than", "1.0 % less than", "as much as"."""
    change = 100 * (value / reference - 1) if reference else math.inf
    if abs(change) < 0.05:
        return "as much as"
    return f"{abs(change):.1f} % {'more' if change > 0 else 'less'} than"


def headline(results: Results) -> list[str]:
    """State the finding in plain sentences, whichever way it falls and whichever arms are missing."""
    corpus, held_out = main_corpus(results), headline_set(results)
    if corpus is None:
        return ["No federated model was measured in this run, so there is nothing to compare.", *_best(results)]
    arms = {arm.name: arm for arm in by_corpus(results)[corpus]}
    federated = arms["federated"]
    own = _measured(federated, held_out)
    pooled = arms.get("pooled")
    alone = [(name, interval) for name, interval in _alone(arms, held_out)]
    parts = []
    if pooled is not None and (interval := score(pooled, held_out)):
        parts.append(f"{relative(own.value, interval.value)} pooled training ({interval.value:.3f})")
    if alone:
        name, interval = min(alone, key=lambda pair: pair[1].value)
        which = "the best single hospital" if len(alone) > 1 else "the only single hospital that was measured"
        parts.append(f"{relative(own.value, interval.value)} {which} ({tidy(name)}, {interval.value:.3f})")
    sentence = f"The federated model needs {own.value:.3f} bits per byte"
    sentences = [f"{sentence}: {' and '.join(parts)}." if parts else f"{sentence}."]
    if pooled is None or score(pooled, held_out) is None:
        sentences.append("There is no pooled model to compare it with.")
    if not alone:
        sentences.append("There is no single-hospital model to compare it with.")
    return sentences


def details(results: Results) -> list[str]:
    """Add what a careful reader asks next: certainty, each hospital's own view, and what rephrasing contributed."""
    corpus, held_out = main_corpus(results), headline_set(results)
    if corpus is None:
        return []
    groups = by_corpus(results)
    arms = {arm.name: arm for arm in groups[corpus]}
    return [*_certainty(arms, held_out), *_own_view(arms), *_rephrasing(groups, held_out)]


def _measured(arm: Arm, held_out: str) -> Interval:
    interval = score(arm, held_out)
    assert interval is not None, "main_corpus chooses only corpora whose federated arm was measured"  # noqa: S101
    return interval


def _alone(arms: dict[str, Arm], held_out: str) -> Iterator[tuple[str, Interval]]:
    for arm in arms.values():
        if kind(arm) == "site" and (interval := score(arm, held_out)):
            yield arm_name(arm), interval


def _best(results: Results) -> list[str]:
    held_out = headline_set(results)
    measured = [(interval.value, arm) for arm in results.arms if (interval := score(arm, held_out))]
    if not measured:
        return []
    value, arm = min(measured, key=lambda pair: pair[0])
    who = "pooled training" if kind(arm) == "pooled" else tidy(arm_name(arm))
    return [f"The best model that was measured is {who} on {CORPUS_NAMES[arm.corpus]}: {value:.3f} bits per byte."]


def _certainty(arms: dict[str, Arm], held_out: str) -> list[str]:
    own = _measured(arms["federated"], held_out)
    rivals = list(_alone(arms, held_out))
    if "pooled" in arms and (interval := score(arms["pooled"], held_out)):
        rivals.append(("pooled training", interval))
    unclear = [name for name, rival in rivals if rival.ci_low <= own.ci_high and own.ci_low <= rival.ci_high]
    if not rivals:
        return []
    if not unclear:
        return ["Its 95 % interval is clear of the interval of every model that it is compared with."]
    names = ", ".join(tidy(name) for name in unclear[:3]) + (f" and {len(unclear) - 3} more" if unclear[3:] else "")
    return [f"Its 95 % interval overlaps that of {names}: differences this small may be chance."]


def _own_view(arms: dict[str, Arm]) -> list[str]:
    """Would each hospital be better off with the federated model on its own patients?"""
    better = total = 0
    for arm in arms.values():
        own, joint = score(arm, arm_name(arm)), score(arms["federated"], arm_name(arm))
        if kind(arm) == "site" and own and joint:
            total += 1
            better += joint.value < own.value
    if not total:
        return []
    return [
        f"On the held-out patients of each hospital, the federated model beats the hospital's own model at {better} of "
        f"{plural(total, 'hospital')}."
    ]


def _rephrasing(groups: dict[Corpus, list[Arm]], held_out: str) -> list[str]:
    values = {
        corpus: interval.value
        for corpus, arms in groups.items()
        for arm in arms
        if kind(arm) == "federated" and (interval := score(arm, held_out))
    }
    if "real" not in values or "real+synthetic" not in values:
        return []
    both, real = values["real+synthetic"], values["real"]
    sentence = f"With rephrasings added, the federated model needs {relative(both, real)} with real notes alone"
    if "real-repeated" in values:
        control = values["real-repeated"]
        sentence += f", and {relative(both, control)} when the real notes are repeated instead (the control)"
    return [f"{sentence}."]


def headline_chart(results: Results) -> Picture | None:
    """Draw all arms with their 95 % intervals, grouped by training corpus; None when nothing was measured."""
    held_out = headline_set(results)
    groups = {
        corpus: measured
        for corpus, arms in by_corpus(results).items()
        if (measured := [(arm, interval) for arm in arms if (interval := score(arm, held_out))])
    }
    if not groups:
        return None
    names = short_names((arm_name(arm) for arm in results.arms), limit=24)
    labels: list[str] = []
    for corpus, measured in groups.items():
        labels += [f"Trained on {CORPUS_NAMES[corpus]}", *(names[arm_name(arm)] for arm, _ in measured)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rows(axes, labels)
        row = 0
        for measured in groups.values():
            axes.get_yticklabels()[row].set(fontweight="bold", color=INK)
            axes.axhline(row - 0.5, color=RULE, linewidth=0.8)
            for row, (arm, interval) in enumerate(measured, start=row + 1):  # noqa: B020
                colour = COLOURS[kind(arm)]
                axes.hlines(row, interval.ci_low, interval.ci_high, color=colour, linewidth=2)
                axes.plot(interval.value, row, MARKERS[kind(arm)], color=colour, markersize=7, markeredgecolor="white")
                beside = axes.get_yaxis_transform()  # x in fractions of the panel, y in rows
                value = f"{interval.value:.3f}"
                axes.text(1.02, row, value, transform=beside, va="center_baseline", color=QUIET)
            row += 1
        axes.margins(x=0.06)
        axes.set_xlabel("bits per byte with 95 % interval (lower is better)")

    best = min((pair for measured in groups.values() for pair in measured), key=lambda pair: pair[1].value)
    who = {"federated": "the federated model", PRIVATE: "the private federated model", "pooled": "pooled training"}.get(
        best[0].name, tidy(arm_name(best[0]))
    )
    return picture(
        "headline",
        title="All models side by side",
        label=f"Bits per byte with 95 % intervals of {plural(len(labels) - len(groups), 'model')} on held-out notes.",
        conclusion=f"Lowest of all is {who}, trained on {CORPUS_NAMES[best[0].corpus]}: {best[1].value:.3f} bits per "
        f"byte on the held-out notes{' of all hospitals' if held_out == UNION else f' of {tidy(held_out)}'}.",
        size=(MEDIUM, 62 + 24 * len(labels)),
        draw=draw,
    )
