"""Prompts: one file each, built in or dropped into a site's ``prompts`` folder."""

from __future__ import annotations

import hashlib
import re
import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from privacy.note_types import Chunk
from protocols.errors import UsageError
from site_client.gates.candidate import Allowance

_SLOTS = ("{header}", "{text}")


class Prompt(BaseModel):
    """One way of rephrasing.

    Attributes:
        name: part of arm and file names.
        version: raised with every change of meaning; any change of the template makes old results stale in any case.
        alias: a second name, such as the paper's P1 to P3.
        summary: one line for people.
        template: the user message, with the slots ``{header}`` and ``{text}`` once each. The instruction comes first,
            so that an engine computes it once for all chunks.
        allows: what the gates permit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)
    version: int = Field(ge=1)
    alias: str | None = None
    summary: str
    template: str = Field(min_length=20, max_length=20_000)
    allows: Allowance = Allowance()

    @field_validator("template")
    @classmethod
    def _has_slots(cls, template: str) -> str:
        for slot in _SLOTS:
            if template.count(slot) != 1:
                raise ValueError(f"the slot {slot} has to be in the template exactly once")
        return template.strip()

    @property
    def digest(self) -> str:
        """SHA-256 of everything that a reply depends on (hex); what the gates allow changes verdicts alone."""
        return hashlib.sha256(self.model_dump_json(include={"template", "version"}).encode()).hexdigest()

    def fill(self, chunk: Chunk) -> str:
        """Put a chunk into the slots. Braces in a note are plain text: nothing is filled in twice."""
        values = {"{header}": chunk.header or "clinical note", "{text}": chunk.text}
        return re.sub("|".join(map(re.escape, _SLOTS)), lambda slot: values[slot[0]], self.template)


def all_prompts(site: Path | None = None) -> dict[str, Prompt]:
    """The built-in prompts and those of a site, by name.

    Args:
        site: site folder; its ``prompts/*.toml`` are added, and one with a built-in name takes its place.

    Raises:
        UsageError: a file cannot be used; the message names it and what is wrong.
    """
    built_in = files("site_client.rephrasing").joinpath("prompt_files")
    found = [_read(p) for p in sorted(built_in.iterdir(), key=lambda p: p.name) if p.name.endswith(".toml")]
    found += [_read(p) for p in sorted(site.glob("prompts/*.toml"))] if site else []
    return {p.name: p for p in found}


def choose_prompts(names: list[str], site: Path | None = None) -> list[Prompt]:
    """Find prompts by name or alias, each once.

    Raises:
        UsageError: there is none of that name.
    """
    known = all_prompts(site)
    aliases = {p.alias.lower(): p for p in known.values() if p.alias}
    chosen: dict[str, Prompt] = {}
    for name in names:
        prompt = known.get(name.lower()) or aliases.get(name.lower())
        if prompt is None:
            raise UsageError(
                f"There is no prompt {name!r}.",
                hint=f"choose of {', '.join(known)}, or put your own file into the site's prompts folder",
            )
        chosen[prompt.name] = prompt
    return list(chosen.values())


def _read(path: Traversable) -> Prompt:
    try:
        return Prompt.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"Prompt file {path.name} is not valid TOML: {error}.") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise UsageError(
            f"Prompt file {path.name} cannot be used: {wrong}.",
            hint="it needs name, version, summary and a template with {header} and {text}",
        ) from error
