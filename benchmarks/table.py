"""One line of the table: what was measured, against what, and whether the target is met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement.

    Attributes:
        what: what was measured.
        against: what it is compared with.
        measured: the number, in ``unit``.
        bound: whether the target is the least or the most that will do.
        target: in ``unit``.
        unit: of both numbers; "x" for a ratio.
        detail: the numbers behind it.
    """

    what: str
    against: str
    measured: float
    bound: Literal["at least", "at most"]
    target: float
    unit: str
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the measured number is on the right side of the target."""
        return self.measured >= self.target if self.bound == "at least" else self.measured <= self.target


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows to the screen."""
    table = Table(title="Ratios measured side by side in this run")
    for heading in ("what", "against", "measured", "target", "met", "detail"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(
            row.what,
            row.against,
            f"{row.measured:,.2f} {row.unit}" if row.measured < 100 else f"{row.measured:,.0f} {row.unit}",
            f"{row.bound} {row.target:,g} {row.unit}",
            "yes" if row.met else "NO",
            row.detail,
        )
    console = Console()
    # A table that is piped into a file must not be folded to 80 columns.
    (console if console.is_terminal else Console(width=180)).print(table)


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The rows as plain values, for a file."""
    return [asdict(row) | {"met": row.met} for row in rows]
