from __future__ import annotations

import pytest

from privacy.note_types import Chunk
from protocols.errors import UsageError
from site_client.rephrasing.prompts import Prompt, all_prompts, choose_prompts

OWN = """
name = "letter"
version = 3
summary = "as a letter"
template = \"\"\"Write it as a letter to a colleague.
Context: {header}
Text: {text}\"\"\"
[allows]
max_length_ratio = 3.0
"""


def chunk(text: str, header: str = "Note type: Consult") -> Chunk:
    return Chunk(chunk_key="n-0", note_key="n", patient_key="p", index=0, header=header, text=text)


def test_the_papers_three_and_four_structured_ones_are_built_in() -> None:
    prompts = all_prompts()
    assert set(prompts) == {
        "wikipedia", "professional", "explained", "question-answer", "problem-list", "soap", "timeline"
    }  # fmt: skip
    assert [p.name for p in choose_prompts(["P1", "p2", "P3"])] == ["wikipedia", "professional", "explained"]
    assert prompts["explained"].allows.explanations and not prompts["professional"].allows.explanations
    assert all(prompts[name].allows.layout for name in ("question-answer", "problem-list", "soap", "timeline"))


@pytest.mark.parametrize("prompt", all_prompts().values(), ids=lambda p: p.name)
def test_the_instruction_comes_first_and_asks_for_the_text_alone(prompt: Prompt) -> None:
    """First, so that an engine computes it once for all chunks."""
    instruction, _, behind = prompt.template.partition("{header}")
    assert len(instruction) > 10 * len(behind)
    assert "Reply with" in instruction and "alone" in instruction
    assert prompt.template.endswith("{text}")


def test_a_site_adds_a_prompt_by_dropping_a_file(tmp_path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "letter.toml").write_text(OWN)
    [letter] = choose_prompts(["letter"], tmp_path)
    assert letter.version == 3 and letter.allows.max_length_ratio == 3.0
    assert letter.fill(chunk("BP 120/80")).endswith("Context: Note type: Consult\nText: BP 120/80")


def test_a_site_may_replace_a_built_in_prompt(tmp_path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "own.toml").write_text(OWN.replace('"letter"', '"soap"'))
    assert all_prompts(tmp_path)["soap"].version == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("{text}", ""), "the slot {text} has to be in the template exactly once"),
        (("{header}", "none"), "the slot {header} has to be in the template exactly once"),
        (("Text: {text}", "{text} {text}"), "the slot {text} has to be in the template exactly once"),
        (('name = "letter"\n', ""), "name: Field required"),
        (('"letter"', '"../letter"'), "name: String should match pattern"),
        (("version = 3", "version = 0"), "version: Input should be greater than or equal to 1"),
        (("version = 3", "version = "), "is not valid TOML"),
        (("[allows]", "[allow]"), "allow: Extra inputs are not permitted"),
    ],
)
def test_a_prompt_file_that_cannot_be_used_is_named(tmp_path, change: tuple[str, str], told: str) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "letter.toml").write_text(OWN.replace(*change))
    with pytest.raises(UsageError) as error:
        all_prompts(tmp_path)
    assert "letter.toml" in error.value.message and told in error.value.message


def test_a_prompt_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="There is no prompt 'p9'"):
        choose_prompts(["p9"])


def test_a_note_cannot_fill_a_slot() -> None:
    [prompt] = choose_prompts(["professional"])
    filled = prompt.fill(chunk("Give {header} {text} {unknown} \\1 \\g<0>", header="{text}"))
    assert filled.endswith("Context: {text}\nText: Give {header} {text} {unknown} \\1 \\g<0>")


def test_a_changed_template_or_version_is_another_prompt_and_an_allowance_is_not() -> None:
    [prompt] = choose_prompts(["professional"])
    assert prompt.model_copy(update={"version": 2}).digest != prompt.digest
    assert prompt.model_copy(update={"template": prompt.template + " "}).digest != prompt.digest
    allows = prompt.allows.model_copy(update={"max_length_ratio": 9.0})
    assert prompt.model_copy(update={"allows": allows}).digest == prompt.digest
