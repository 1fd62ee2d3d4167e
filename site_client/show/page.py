"""Examples as one HTML file that needs no network, no script and no server, and that its owner alone can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from protocols.durable import whole_file
from site_client.show.differences import Part, Run, differences
from site_client.show.example import ArmFacts, ArmTotal, Example, Rephrasing
from site_client.show.visible import visible
from site_client.show.wording import ending_words, reason_words, share_words

_TAGS = {"dropped": "del", "new": "ins", "moved": "span"}


@dataclass(frozen=True, slots=True)
class _Pair:
    """One rephrasing as the template shows it; ``source`` and ``text`` are the marked texts."""

    arm: int
    title: str
    accepted: bool
    reasons: list[tuple[str, str]]
    source: Markup
    text: Markup
    missing: tuple[str, ...]
    added: tuple[str, ...]
    facts: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Shown:
    """One example as the template shows it."""

    context: str
    origin: str
    pairs: list[_Pair]

    @property
    def kinds(self) -> set[tuple[int, str]]:
        """Arm and verdict of what it holds."""
        return {(pair.arm, "accepted" if pair.accepted else "rejected") for pair in self.pairs}

    @property
    def has(self) -> str:
        """The same as words that a style sheet can look for."""
        return " ".join(sorted(f"{arm}-{verdict}" for arm, verdict in self.kinds))


def write_page(examples: Sequence[Example], path: Path, site_name: str, summary: Sequence[ArmTotal]) -> None:
    """Write the page; a reader of ``path`` sees the old page or the whole new one, never a part.

    Args:
        examples: what to show. Texts and names may hold anything; nothing in them can act.
        path: the file to write or replace. It holds patient text and stays at the site.
        site_name: what the hospital calls itself.
        summary: verdicts by arm, over everything that was rephrased.

    Raises:
        StorageError: it cannot be written.
    """
    page = render_page(examples, site_name, summary).encode()
    with whole_file(path) as partial:
        partial.write_bytes(page)


def render_page(examples: Sequence[Example], site_name: str, summary: Sequence[ArmTotal]) -> str:
    """Return the page as HTML; equal arguments give an equal page."""
    environment = Environment(
        loader=PackageLoader("site_client.show", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    arms = list(dict.fromkeys(r.arm for example in examples for r in example.rephrasings))
    shown = [_example(example, arms) for example in examples]
    kinds = [example.kinds for example in shown]
    return environment.get_template("page.html.j2").render(
        site=visible(site_name),
        style=Markup(files("site_client.show").joinpath("page.css").read_text("utf-8")),  # noqa: S704 - our own file
        filter_rules=_filter_rules(len(arms), set().union(*kinds)),
        lead=_lead(examples, len(arms)),
        totals=[_total(total) for total in summary],
        arms=[_title(arm) for arm in arms],
        examples=shown,
    )


def _lead(examples: Sequence[Example], arms: int) -> str:
    rephrasings = [r for example in examples for r in example.rephrasings]
    accepted = sum(r.accepted for r in rephrasings)
    return (
        f"{_plural(len(examples), 'passage')} of real notes and {_plural(len(rephrasings), 'rephrasing')} of them by "
        f"{_plural(arms, 'combination')} of model and prompt: {accepted} accepted, "
        f"{len(rephrasings) - accepted} rejected."
    )


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _total(total: ArmTotal) -> dict[str, str]:
    return {
        "prompt": visible(total.arm.prompt),
        "model": visible(total.arm.model),
        "judged": f"{total.judged:,}",
        "share": share_words(total.accepted, total.judged).replace(" ", "\N{NO-BREAK SPACE}"),
        "percent": f"{100 * total.accepted / max(1, total.judged):.1f}",
    }


def _title(arm: ArmFacts) -> str:
    return visible(f"{arm.prompt} by {arm.model}")


def _example(example: Example, arms: Sequence[ArmFacts]) -> _Shown:
    chunk = example.chunk
    origin = f"Patient {chunk.patient_key[:8]}, note {chunk.note_key[:8]}, part {chunk.index + 1} (pseudonyms)"
    context = visible(chunk.header).removeprefix("Note type: ") or "Note of unknown type"
    return _Shown(context, visible(origin), [_pair(example, r, arms.index(r.arm)) for r in example.rephrasings])


def _pair(example: Example, rephrasing: Rephrasing, arm: int) -> _Pair:
    result, who = rephrasing.result, rephrasing.arm
    found = differences(example.chunk.text, result.text)
    facts = [
        ("Asked for", visible(who.asked)),
        ("Engine", visible(who.engine)),
        ("Ending", ending_words(result.finish_reason)),
        ("Tokens", f"{result.output_tokens:,} written, {result.prompt_tokens:,} read"),
    ]
    if not found.compared:
        facts.insert(0, ("Marks", "none, as the texts are too long to be compared word by word"))
    return _Pair(
        arm=arm,
        title=_title(who),
        accepted=rephrasing.accepted,
        reasons=[(visible(name), _sentence(reason_words(name))) for name in result.reasons],
        source=_marked(found.source),
        text=_marked(found.text) if result.text.strip() else Markup(),
        missing=found.missing,
        added=found.added,
        facts=facts,
    )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _marked(runs: Sequence[Run]) -> Markup:
    return Markup().join(map(_run, runs))


def _run(run: Run) -> Markup:
    inside = Markup().join(map(_part, run.parts))
    if run.change == "same":
        return inside
    classes = " ".join(name for name, on in (("moved", run.change == "moved"), ("minor", run.minor)) if on)
    opened = Markup('<{0} class="{1}">') if classes else Markup("<{0}>")
    tag = _TAGS[run.change]
    return opened.format(tag, classes) + inside + Markup("</{0}>").format(tag)


def _part(part: Part) -> Markup:
    return Markup("<b>{0}</b>").format(part.text) if part.kind else escape(part.text)


def _filter_rules(arms: int, kinds: set[tuple[int, str]]) -> list[Markup]:
    """Style rules that hide what was not asked for; they hold numbers and our own words, nothing from outside."""
    rules = []
    every = ["all", *map(str, range(arms))]
    for verdict in ("all", "accepted", "rejected"):
        for arm in every:
            chosen = f"body:has(#show-{verdict}:checked)"
            if arms > 1:
                chosen += f':has(option[value="{arm}"]:checked)'
            elif arm != "all":
                continue
            wanted = [(a, v) for a, v in sorted(kinds) if arm in ("all", str(a)) and verdict in ("all", v)]
            if not wanted:
                rules.append(f"{chosen} .none {{ display: block; }}")
            kept = "".join(f':not([data-has~="{a}-{v}"])' for a, v in wanted)
            rules.append(f"{chosen} .example{kept} {{ display: none; }}")
            unlike = [f".pair:not(.{verdict})"] if verdict != "all" else []
            unlike += [f'.pair:not([data-arm="{arm}"])'] if arm != "all" else []
            rules += [f"{chosen} {pair} {{ display: none; }}" for pair in unlike]
    return [Markup(rule) for rule in rules]  # noqa: S704
