"""The pictures of an audit: bounds, exposure and the curve of membership, one model or two in each."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from site_client.audit.report import AuditReport, ExposureFacts, ModelAudit, OneRunFacts, Spread, UpperBound
from site_client.audit.wording import is_refuted
from site_client.show.charts import (
    AMBER,
    BLUE,
    GREY,
    INK,
    MEDIUM,
    QUIET,
    RULE,
    VERMILION,
    WIDE,
    Picture,
    picture,
    rows,
    short_names,
)

_COLOURS = (BLUE, VERMILION)  # of the models
_STYLES = ("-", "--")
_BAR = 0.42


def bounds_chart(report: AuditReport) -> Picture | None:
    """Draw what was shown, what could have been shown, and what the accountant vouches for."""
    models = [m for m in report.models if m.one_run]
    if not models:
        return None
    refuted = [m.name for m in models if is_refuted(m)]
    shown = [f"{m.name} {m.one_run.patient_level_lower_bound:.2f}" for m in models if m.one_run]
    return picture(
        "bounds",
        title="Privacy loss (ε) of one patient: shown, showable, vouched for",
        label=f"Bars of the empirical lower bound on epsilon: {', '.join(shown)}.",
        conclusion=(
            f"The bar of {' and '.join(refuted)} passes the accountant's bound: the claim is wrong."
            if refuted
            else "The true loss is to the right of the bar, and left of the diamond where there is one."
        ),
        size=(WIDE, 118 + 62 * len(models)),
        draw=lambda figure: _draw_bounds(figure, models),
    )


def _draw_bounds(figure: Figure, models: Sequence[ModelAudit]) -> None:
    axes = figure.subplots()
    names = short_names(m.name for m in models)
    rows(axes, [names[m.name] for m in models])
    right = max(
        max(m.one_run.patient_level_ceiling for m in models if m.one_run),
        max((m.upper_bound.value for m in models if m.upper_bound), default=0.0),
    )
    axes.set_xlim(0, 1.32 * right)  # room for the words behind the last mark
    for row, model in enumerate(models):
        if model.one_run is not None:
            _draw_lower(axes, row, model.one_run, right)
            _draw_upper(axes, row, model.one_run, model.upper_bound, right)
    axes.set_xlabel("ε")
    handles, labels = axes.get_legend_handles_labels()
    first = dict(zip(reversed(labels), reversed(handles), strict=True))  # one of each kind
    figure.legend(first.values(), first.keys(), loc="outside upper left", ncols=3)


def _draw_lower(axes: Axes, row: int, facts: OneRunFacts, right: float) -> None:
    lower, ceiling = facts.patient_level_lower_bound, facts.patient_level_ceiling
    axes.barh(row, lower, height=_BAR, color=BLUE, label="shown by canaries (lower bound)")
    axes.text(lower + 0.008 * right, row - 0.34, f"{lower:.2f}", ha="left", va="center", fontsize=11, color=INK)
    reach = _BAR / 2
    axes.plot(
        [ceiling, ceiling], [row - reach, row + reach], color=GREY, linewidth=2, label="most that this audit can show"
    )


def _draw_upper(axes: Axes, row: int, facts: OneRunFacts, bound: UpperBound | None, right: float) -> None:
    gap = 0.02 * right
    if bound is None:
        words = "no guarantee"
        axes.text(facts.patient_level_ceiling + gap, row, words, va="center", fontsize=11, color=VERMILION)
        return
    label = "the accountant's upper bound"
    axes.plot(bound.value, row, "D", color=AMBER, markeredgecolor="white", markersize=10, label=label)
    # Words would be lost on the bar or the grey line; there they stand below.
    free = bound.value > facts.patient_level_ceiling
    height, align = (row, "left") if free else (row + 0.36, "center")
    place = bound.value + gap if free else max(bound.value, 0.07 * right)
    axes.text(place, height, f"{bound.value:.2f} per {bound.unit}", va="center", ha=align, fontsize=11, color=INK)


def exposure_chart(report: AuditReport) -> Picture | None:
    """Draw how exposures are spread, secrets in training beside those left out."""
    shown = [(m.name, m.exposure) for m in report.models if m.exposure and (m.exposure.included or m.exposure.left_out)]
    if not shown:
        return None
    medians = [f"{name} {e.included.median:.1f} bits" for name, e in shown if e.included]
    return picture(
        "exposure",
        title="Exposure of secrets: in training beside left out",
        label=f"Histograms of exposure; median of the secrets in training: {', '.join(medians)}.",
        conclusion="Without memory both kinds of bars look alike and halve from bit to bit. Blue bars at the right are "
        "secrets that the model knows.",
        size=(WIDE, 70 + 190 * len(shown)),
        draw=lambda figure: _draw_exposure(figure, shown),
    )


def _draw_exposure(figure: Figure, shown: Sequence[tuple[str, ExposureFacts]]) -> None:
    panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    names = short_names((name for name, _ in shown), limit=60)
    for axes, (name, facts) in zip(panels, shown, strict=True):
        axes.set_title(names[name])
        groups: list[tuple[Spread | None, str, str, float]] = [
            (facts.included, "in training", BLUE, -_BAR / 2),
            (facts.left_out, "left out (control)", AMBER, _BAR / 2),
        ]
        for spread, label, colour, shift in groups:
            if spread is not None:
                shares = [100 * n / spread.count for n in spread.histogram]
                places = [i + 0.5 + shift for i in range(len(shares))]
                axes.bar(places, shares, width=_BAR, color=colour, label=label)
        _percent_axis(axes, "secrets")
        bins = max(len(s.histogram) for s, *_ in groups if s is not None)
        axes.set_xticks(range(bins + 1))
    panels[-1].set_xlabel("exposure [bits]; the last bin holds secrets that rank first or nearly so")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2)


def membership_chart(report: AuditReport) -> Picture | None:
    """Draw the share of training patients found against the share of false alarms."""
    shown = [(m.name, m.membership) for m in report.models if m.membership]
    if not shown:
        return None
    areas = [f"{name} {m.auc:.2f}" for name, m in shown]
    return picture(
        "membership",
        title="Telling training patients from others",
        label=f"Curves of true against false alarms; area under the curve: {', '.join(areas)}.",
        conclusion="On the dotted diagonal an attacker does no better than guessing. The further a curve rises above "
        "it, above all at the left, the more patients can be told to have been in training.",
        size=(MEDIUM, 400),
        draw=lambda figure: _draw_membership(figure, [(name, m.auc, m.roc) for name, m in shown]),
    )


def _draw_membership(figure: Figure, shown: Sequence[tuple[str, float, tuple[float, ...]]]) -> None:
    axes = figure.subplots()
    names = short_names((name for name, *_ in shown), limit=30)
    axes.plot([0, 100], [0, 100], color=QUIET, linewidth=1.2, linestyle=":", label="guessing")
    for (name, area, roc), colour, style in zip(shown, _COLOURS, _STYLES, strict=False):
        axes.step(
            [0, *range(len(roc))],
            [0, *(100 * v for v in roc)],
            where="post",
            color=colour,
            linestyle=style,
            linewidth=2,
            label=f"{names[name]} (area {area:.2f})",
        )
    axes.set_xlim(0, 100)
    axes.set_xlabel("held-out patients wrongly called training patients [%]")
    _percent_axis(axes, "training patients found")
    axes.set_ylim(0, 101)
    axes.grid(visible=True)
    axes.spines.left.set_visible(True)
    figure.legend(loc="outside upper left", ncols=1)


def _percent_axis(axes: Axes, what: str) -> None:
    axes.set_ylabel(f"{what} [%]")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, axis="y", color=RULE)
