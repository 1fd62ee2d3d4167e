"""Examples in the terminal: two columns where there is room, one below the other elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from site_client.show.differences import Change, Differences, Run, differences
from site_client.show.example import Example, Rephrasing
from site_client.show.visible import visible
from site_client.show.wording import ending_words, verdict_words

_WIDE = 100  # columns from which two texts stand side by side
_MOST_LISTED = 12
_STYLES: dict[Change, str] = {
    "same": "",
    "dropped": "red strike",
    "new": "green underline",
    "moved": "cyan italic",
}
# Without colours and styles, as in a file or a pipe, the marks are signs.
_SIGNS: dict[Change, tuple[str, str]] = {"dropped": ("[-", "-]"), "new": ("{+", "+}"), "moved": ("<~", "~>")}
_MEANINGS: dict[Change, str] = {
    "dropped": "only in the source",
    "new": "only in the rephrasing",
    "moved": "in another place",
}


def print_examples(examples: Sequence[Example], console: Console) -> None:
    """Print sources and rephrasings with their differences.

    Args:
        examples: what to show; nothing in them can act on the terminal.
        console: decides on width, colours and encoding.
    """
    screen = _Screen(console)
    screen.print(Text("Patient text. It must not leave this site.", style="bold"))
    screen.print(_key(screen))
    for number, example in enumerate(examples, 1):
        heading = f"{number} of {len(examples)}"
        if context := visible(example.chunk.header):
            heading += f"  {context}"
        screen.print(Text())
        screen.print(screen.inert(heading, "bold"))
        screen.print(Text("-" * console.width, style="dim"))
        for rephrasing in example.rephrasings:
            screen.show(example, rephrasing)


class _Screen:
    def __init__(self, console: Console) -> None:
        self._console = console
        self.signs = console.color_system is None

    def print(self, what: Text | Table | Padding) -> None:
        self._console.print(what, markup=False, highlight=False, emoji=False)

    def inert(self, text: str, style: str | Style = "") -> Text:
        """A text that is nothing but its characters, as far as the terminal can show them."""
        encoding = self._console.encoding
        return Text(text.encode(encoding, "backslashreplace").decode(encoding), style=style)

    def marked(self, runs: Sequence[Run]) -> Text:
        """One side of a comparison."""
        whole = Text()
        for run in runs:
            style = _STYLES[run.change]
            before, after = _SIGNS.get(run.change, ("", "")) if self.signs else ("", "")
            whole.append(before)
            for part in run.parts:
                emphasis = f"{style} bold" if part.kind else f"{style} dim" if run.minor else style
                whole.append_text(self.inert(part.text, emphasis.strip()))
            whole.append(after)
        return whole

    def show(self, example: Example, rephrasing: Rephrasing) -> None:
        """Print one rephrasing beside its source."""
        result = rephrasing.result
        found = differences(example.chunk.text, result.text)
        verdict = Style(bold=True, color="green" if rephrasing.accepted else "red")
        self.print(Text())
        self.print(
            self.inert(f"{visible(rephrasing.arm.name)}  ", "bold") + self.inert(verdict_words(result.reasons), verdict)
        )
        self.print(self._columns(found))
        for line in _below(rephrasing, found):
            self.print(Padding(self.inert(line, "dim"), (0, 0, 0, 2)))

    def _columns(self, found: Differences) -> Table | Padding:
        source, text = self.marked(found.source), self.marked(found.text)
        if not text.plain.strip():
            text = Text("(empty)", style="dim")
        wide = self._console.width >= _WIDE
        table = Table.grid(padding=(0, 4 if wide else 0), expand=True)
        table.add_column(ratio=1, overflow="fold")
        if wide:
            table.add_column(ratio=1, overflow="fold")
            table.add_row(Text("Source", style="dim"), Text("Rephrasing", style="dim"))
            table.add_row(source, text)
        else:
            for line in (Text("Source", style="dim"), source, Text("Rephrasing", style="dim"), text):
                table.add_row(line)
        return Padding(table, (0, 0, 0, 2))


def _key(screen: _Screen) -> Text:
    key = screen.inert("Marks: ")
    for change, words in _MEANINGS.items():
        before, after = _SIGNS[change] if screen.signs else ("", "")
        key.append(f"{before}{words}{after}", style=_STYLES[change]).append(", ")
    return key.append("bold", style="bold").append(": numbers, units, negations, sides")


def _below(rephrasing: Rephrasing, found: Differences) -> list[str]:
    result, arm = rephrasing.result, rephrasing.arm
    lines = []
    if not found.compared:
        lines.append("Too long to be compared word by word.")
    only = {"in the source": found.missing, "in the rephrasing": found.added}
    if check := [f"{where} {_listed(words)}" for where, words in only.items() if words]:
        lines.append(f"Check: {'; '.join(check)}")
    lines.append(
        f"{visible(arm.engine)}, {visible(arm.model)}, prompt {visible(arm.prompt)}; "
        f"{ending_words(result.finish_reason)}; {result.output_tokens:,} tokens"
    )
    return lines


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _MOST_LISTED} more" if len(words) > _MOST_LISTED else ""
    return ", ".join(words[:_MOST_LISTED]) + more
