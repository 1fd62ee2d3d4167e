"""Bits per byte of every model on every evaluation set, as a table of shades."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from simulations.chart_headline import CORPUS_NAMES, UNION, arm_name, by_corpus, score
from simulations.results import Arm, Results
from site_client.show.charts import INK, PALE, WIDE, Picture, picture, plural, rows, short_names, tidy

# Few steps: matplotlib would embed the key of a finer scale as a bitmap.
_SHADES = LinearSegmentedColormap.from_list("worse", ["#ffffff", "#fbe3c8", "#f3b27a", "#e58a4a"], N=32)
_CELL = 46  # [CSS pixels], wide enough for "12.345"


def evaluation_sets(results: Results) -> list[str]:
    """Return the names of all evaluation sets: the union first, then the hospitals in order, then extra files."""
    measured = dict.fromkeys(name for arm in results.arms for name in arm.bits_per_byte)
    first = [UNION, *(site.name for site in results.sites)]
    return [name for name in first if name in measured] + [name for name in measured if name not in first]


def evaluation_chart(results: Results) -> Picture | None:
    """Draw a table of models by evaluation sets, shaded by the distance to the best model of each set."""
    sets = evaluation_sets(results)
    names = short_names((arm_name(arm) for arm in results.arms), limit=22)
    labels: list[str] = []
    arms: dict[int, Arm] = {}
    for corpus, group in by_corpus(results).items():
        labels.append(f"Trained on {CORPUS_NAMES[corpus]}")
        arms |= dict(enumerate(group, start=len(labels)))
        labels += [names[arm_name(arm)] for arm in group]
    values = {(i, j): s.value for i, arm in arms.items() for j, name in enumerate(sets) if (s := score(arm, name))}
    if not values:
        return None
    columns = list(short_names(sets, limit=22).values())
    table = _Table(labels, [row for row in range(len(labels)) if row not in arms], columns, values)
    width = max(WIDE, 320 + _CELL * len(sets))
    return picture(
        "evaluation",
        title="Every model on every evaluation set",
        label=f"Table of bits per byte: {plural(len(arms), 'model')} by {plural(len(sets), 'evaluation set')}, "
        "shaded by distance to the best.",
        conclusion=_conclusion(table, [row for row, arm in arms.items() if arm.name == "federated"], sets),
        size=(width, 210 + 23 * len(labels)),
        draw=lambda figure: _draw(figure, table, width),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """Cells by (row, column); ``headings`` are rows that hold a label and no cells."""

    rows: list[str]
    headings: list[int]
    columns: list[str]
    values: dict[tuple[int, int], float]

    def best(self, column: int) -> float:
        return min(value for (_, j), value in self.values.items() if j == column)

    def excess(self) -> dict[tuple[int, int], float]:
        """Return how far each cell lies above the best of its column [per cent]."""
        best = {column: self.best(column) for column in {j for _, j in self.values}}
        return {(i, j): 100 * (v / best[j] - 1) if best[j] > 0 else 0.0 for (i, j), v in self.values.items()}


def _conclusion(table: _Table, federated: list[int], sets: list[str]) -> str:
    excess = {cell: value for cell, value in table.excess().items() if cell[0] in federated}
    if not excess:
        return "No federated model is among them."
    wins = len({column for (_, column), value in excess.items() if value == 0})
    text = f"A federated model is best on {wins} of {plural(len(sets), 'evaluation set')}"
    gap = min((value for (_, column), value in excess.items() if column == 0), default=0.0)
    return f"{text}, and {gap:.1f} % above the best on “{tidy(sets[0])}”." if gap > 0 else f"{text}."


def _draw(figure: Figure, table: _Table, width: float) -> None:
    axes = figure.subplots()
    rows(axes, table.rows, grid=False)
    for row in table.headings:
        axes.get_yticklabels()[row].set(fontweight="bold")
    excess = table.excess()
    top = max(*excess.values(), 1.0)
    for (i, j), value in table.values.items():
        axes.fill(
            [j - 0.5, j + 0.5, j + 0.5, j - 0.5],
            [i - 0.5, i - 0.5, i + 0.5, i + 0.5],
            facecolor=_SHADES(excess[i, j] / top),
            edgecolor=PALE,
            linewidth=1,
        )
        weight = "bold" if excess[i, j] == 0 else "normal"
        axes.text(j, i, f"{value:.3f}", ha="center", va="center", fontsize=11, fontweight=weight, color=INK)
    axes.set_xlim(-0.5, len(table.columns) - 0.5)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=40, ha="left", color=INK)
    key = ScalarMappable(Normalize(0, top), _SHADES)
    shrink = 320 / (width - 240)  # the key stays as it is, however many columns there are
    bar = figure.colorbar(key, ax=axes, location="bottom", shrink=shrink, aspect=36, pad=0.02, anchor=(0.0, 0.0))
    bar.ax.set_xlabel("per cent above the best model of the column (bold)", loc="left")
    bar.outline.set_visible(False)
