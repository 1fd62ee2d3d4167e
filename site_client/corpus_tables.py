"""The tables of ``fednotes site corpus``: lines and colours on a terminal, aligned columns in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from site_client.corpus_counts import CorpusNumbers
from site_client.export import ExportReport
from site_client.folder import LeakageLimits
from site_client.leakage.limits import passed_limits
from site_client.leakage.report import ArmLeakage, LeakageReport

_PIPE_WIDTH = 1_000  # characters; no line of a table is broken where nobody sees the width


def print_numbers(numbers: CorpusNumbers) -> None:
    """Print what a site has."""
    console = _console()
    rows = [[split, f"{numbers.notes[split]:,}", f"{numbers.patients[split]:,}"] for split in numbers.notes]
    console.print(_table(console, ["split", "notes", "patients"], rows))
    if not numbers.arms:
        console.print("No rephrasings yet.")
        return
    console.print()
    columns = ["arm", "judged", "accepted", "accepted tokens", "output tokens", "patients"]
    arms = [
        [a.arm, *(f"{n:,}" for n in (a.judged, a.accepted, a.accepted_tokens, a.output_tokens, a.patients))]
        for a in numbers.arms
    ]
    console.print(_table(console, columns, arms))
    reasons = [[a.arm, reason, f"{n:,}"] for a in numbers.arms for reason, n in a.rejected.items()]
    if reasons:
        console.print()
        console.print(_table(console, ["arm", "rejected by", "rephrasings"], reasons, words=2))
    console.print()
    console.print(
        f"{numbers.synthetic_tokens:,} synthetic and about {numbers.real_tokens:,} real tokens: "
        f"{numbers.synthetic_share:.1%} synthetic."
    )


def print_leakage(report: LeakageReport, limits: LeakageLimits) -> None:
    """Print a leakage report; what is beyond a limit of the site has an exclamation mark."""
    console = _console()
    console.print("What is left of the own note (n-grams: five words that one patient alone has)")
    columns = ["arm", "texts", "verbatim words\np50 / p95 / max", "n-grams\nkept", "identifiers\nper 1,000", "planted"]
    columns += ["same\nopening"]
    console.print(_table(console, columns, [_own_row(arm, limits) for arm in report.arms]))
    console.print("\nWhat stands in notes of other patients")
    columns = ["arm", "n-grams\nper 1,000", "by chance", "near-copies", "by chance", "templates"]
    console.print(_table(console, columns, [_others_row(arm, limits) for arm in report.arms]))
    console.print()
    said = [f"Compared with {report.training_patients:,} training patients."]
    if report.held_out_patients:
        said.append(f"Chance is that of {report.held_out_patients:,} held-out patients, brought to as much text.")
    if report.planted is not None:
        said.append(f"Planted strings: {report.planted:,}, in notes {report.planted_in_notes:,}.")
    console.print(" ".join(said))
    if any(passed_limits(arm, limits) for arm in report.arms):
        console.print("! beyond a limit of [leakage] in site.toml")


def print_export(report: ExportReport) -> None:
    """Print what was exported."""
    console = _console()
    console.print(_table(console, ["arm", "rephrasings"], [[arm, f"{n:,}"] for arm, n in report.arms.items()]))
    console.print()
    if report.written:
        console.print(f"{report.out}: {report.rows:,} texts, {report.bytes:,} bytes, sha256 {report.sha256}")
    else:
        console.print(f"{report.out}: {report.rows:,} texts would be written.")


def _own_row(arm: ArmLeakage, limits: LeakageLimits) -> list[str | Text]:
    passed = passed_limits(arm, limits)
    words, planted = arm.verbatim.words, arm.identifiers.planted_surviving
    return [
        arm.arm,
        f"{arm.rephrasings:,}",
        _judged(f"{words.p50} / {words.p95} / {words.max}", "max_verbatim_words" in passed),
        _judged(f"{arm.rare_ngrams.share_kept:.1%}", "max_rare_ngram_share" in passed),
        _judged(f"{arm.identifiers.per_1000:.2f}", "max_identifiers_per_1000" in passed),
        "-" if planted is None else _judged(f"{planted:,}", "max_planted_surviving" in passed),
        f"{arm.opening_share:.1%}",
    ]


def _others_row(arm: ArmLeakage, limits: LeakageLimits) -> list[str | Text]:
    rare, near = arm.rare_ngrams, arm.near_copies
    return [
        arm.arm,
        f"{rare.of_others_per_1000:.2f}",
        "-" if rare.by_chance_per_1000 is None else f"{rare.by_chance_per_1000:.2f}",
        _judged(f"{near.share:.2%}", "max_near_copy_share" in passed_limits(arm, limits)),
        "-" if near.share_by_chance is None else f"{near.share_by_chance:.2%}",
        f"{near.template_share:.1%}",
    ]


def _judged(value: str, passed: bool) -> Text:
    return Text(f"{value} !", style="red") if passed else Text(value)


def _console() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def _table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str | Text]], words: int = 1) -> Table:
    """Lay a table out; its first ``words`` columns hold words, the others numbers."""
    table = Table() if console.is_terminal else Table(box=None, pad_edge=False)
    for place, name in enumerate(columns):
        title = name if console.is_terminal else name.replace("\n", " ")
        table.add_column(title, justify="left" if place < words else "right", overflow="fold", no_wrap=place < words)
    for row in rows:
        table.add_row(*row)
    return table
