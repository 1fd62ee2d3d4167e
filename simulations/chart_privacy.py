"""What differential privacy promised, round by round, and what it cost in quality."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from simulations.chart_headline import CORPUS_NAMES, headline_set, kind, score
from simulations.results import Arm, PrivacyFacts, Results
from site_client.show.charts import AMBER, BLUE, GREY, NARROW, QUIET, Picture, count, picture, plural, rows, tidy

_MARKED = 12


def private_arm(results: Results) -> Arm | None:
    """The arm under differential privacy; None without one."""
    return next((arm for arm in results.arms if kind(arm) == "private"), None)


def spent(privacy: PrivacyFacts) -> float:
    """Epsilon at the hospital that spent most, for the unit of the run."""
    value: float = getattr(privacy, f"{privacy.unit}_level_epsilon")
    return value


def epsilon_chart(results: Results) -> Picture | None:
    """Draw the epsilon spent by round, a line per hospital; None without differential privacy."""
    privacy, arm = results.privacy, private_arm(results)
    if privacy is None or arm is None:
        return None
    lines: dict[str, list[tuple[int, float]]] = {}
    for facts in arm.rounds:
        for site, value in getattr(facts, f"{privacy.unit}_level_epsilon").items():
            lines.setdefault(site, []).append((facts.round, value))
    if not lines:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for points in lines.values():
            marker = "o" if len(points) <= _MARKED else ""
            axes.plot(*zip(*points, strict=True), color=BLUE, linewidth=1.6, marker=marker, markersize=4)
        axes.axhline(privacy.target_epsilon, color=QUIET, linewidth=1, linestyle="--")
        axes.annotate("asked for", (1, privacy.target_epsilon), (0, 4), textcoords="offset points", color=QUIET)
        axes.set_ylim(0, 1.15 * max(privacy.target_epsilon, *(p[-1][1] for p in lines.values())))
        axes.set_xlabel("round")
        axes.set_ylabel(f"{privacy.unit}-level epsilon")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(visible=True, axis="y")

    return picture(
        "epsilon",
        title="Privacy spent by round",
        label=f"{privacy.unit}-level epsilon after each round, a line for each of {plural(len(lines), 'hospital')}.",
        conclusion=f"After the last round, the hospital that spent most had spent a {privacy.unit}-level epsilon of "
        f"{spent(privacy):.2f} at delta {privacy.delta:g}; hospitals with equal settings spend alike, and their lines "
        "lie on each other.",
        size=(NARROW, 290),
        draw=draw,
    )


def cost_chart(results: Results) -> Picture | None:
    """Draw bits per byte with and without differential privacy on the same corpus; None where one is missing."""
    private, held_out = private_arm(results), headline_set(results)
    if private is None:
        return None
    open_arm = next((a for a in results.arms if a.name == "federated" and a.corpus == private.corpus), None)
    if open_arm is None:
        return None
    with_dp, without = score(private, held_out), score(open_arm, held_out)
    if with_dp is None or without is None:
        return None
    bars = [("without", without, GREY), ("with", with_dp, AMBER)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        rows(axes, [label for label, _, _ in bars], grid=False)
        for row, (_, interval, colour) in enumerate(bars):
            axes.barh(row, interval.value, height=0.55, color=colour)
            axes.hlines(row, interval.ci_low, interval.ci_high, color=QUIET, linewidth=1.5)
            text = f"{interval.value:.3f}"
            axes.annotate(text, (interval.ci_high, row), (6, 0), textcoords="offset points", va="center_baseline")
        axes.set_xlim(0, 1.25 * max(interval.ci_high for _, interval, _ in bars))
        axes.set_xlabel("bits per byte (lower is better)")

    more = 100 * (with_dp.value / without.value - 1)
    return picture(
        "dp-cost",
        title="What it costs",
        label="Bits per byte of the federated model with and without differential privacy.",
        conclusion=f"Trained on {CORPUS_NAMES[private.corpus]}, the federated model needs {abs(more):.1f} % "
        f"{'more' if more >= 0 else 'fewer'} bits per byte with differential privacy than without, on the held-out "
        f"notes of {'all hospitals' if held_out == 'all' else tidy(held_out)}. It trained on "
        f"{count(private.train_tokens)} tokens, the model without on {count(open_arm.train_tokens)}.",
        size=(NARROW, 190),
        draw=draw,
    )
