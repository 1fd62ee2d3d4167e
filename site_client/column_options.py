"""Command-line options that say which column of an export holds what; shared by every command that reads notes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from protocols.errors import UsageError
from site_client.notes.mapping import PRESETS, ColumnMapping

_PANEL = "Columns"


def _column(flag: str, what: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(
        flag, help=f"Column that holds {what}.", metavar="NAME", rich_help_panel=_PANEL
    )
    return info


Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", help=f"Columns of a known export: {', '.join(PRESETS)}.", metavar="NAME", rich_help_panel=_PANEL
    ),
]
TextColumn = Annotated[str | None, _column("--text-column", "the text")]
PatientColumn = Annotated[str | None, _column("--patient-column", "the patient's identifier")]
NoteIdColumn = Annotated[str | None, _column("--note-id-column", "the note's identifier")]
TypeColumn = Annotated[str | None, _column("--type-column", "the kind of note")]
TimeColumn = Annotated[str | None, _column("--time-column", "the time of writing")]


def columns_from(preset: str | None, **named: str | None) -> ColumnMapping:
    """Put a preset and single columns together; what is left open is guessed from well-known names.

    Args:
        preset: name of a preset, or None.
        named: fields of ColumnMapping; they win over the preset.

    Raises:
        UsageError: there is no such preset.
    """
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"There is no preset {preset!r}.", hint=f"choose one of: {', '.join(PRESETS)}")
    base = PRESETS[preset] if preset is not None else ColumnMapping()
    return replace(base, **{field: name for field, name in named.items() if name is not None})
