from __future__ import annotations

import pytest

from site_client.rephrasing.tidy import tidy

TEXT = "The patient coughs. There is no fever."


@pytest.mark.parametrize(
    "reply",
    [
        TEXT,
        f"  {TEXT}\n",
        f"Here is the paraphrase:\n\n{TEXT}",
        f"Here's a paraphrased version of the text:\n{TEXT}",
        f"Sure, here is the rewritten note in professional English:\n\n{TEXT}",
        f"Sure! Here is the rewritten note:\n\n{TEXT}",
        f"**Paraphrased version:**\n\n{TEXT}",
        f"Rewritten text:\n{TEXT}",
        f'"{TEXT}"',
        f"\u201c{TEXT}\u201d",
        f"```\n{TEXT}\n```",
        f"```text\n{TEXT}```",
        f"<think>\nThe note says cough.\n</think>\n\n{TEXT}",
        f'<think></think>Here is the paraphrase:\n"{TEXT}"',
    ],
)
def test_wrapping_is_taken_off(reply: str) -> None:
    assert tidy(reply) == TEXT


@pytest.mark.parametrize(
    "text",
    [
        '"Yes," she said, and then "no"',  # the quotation marks are not around the whole
        "Here is a patient who coughs.",
        "Impression:\nCough.",
        "Subjective\nThe patient coughs.",
        "Question: What is the matter?\nAnswer: A cough.",
        "",
        '"',
    ],
)
def test_the_text_itself_is_left_alone(text: str) -> None:
    assert tidy(text) == text
