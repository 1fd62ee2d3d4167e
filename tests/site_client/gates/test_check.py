from __future__ import annotations

import json

import pytest

from protocols.errors import UsageError
from site_client.gates.candidate import Allowance
from site_client.gates.check import check_pairs

SOURCE, TEXT = "Pt has pain in left knee x 3 weeks.", "The patient has had pain in the left knee for three weeks."
GOOD = {"id": "a", "source_text": SOURCE, "rephrased_text": TEXT, "style": "explained", "label": "extra"}
BAD = GOOD | {"id": "b", "rephrased_text": TEXT.replace("left", "right")}


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_each_pair_is_judged_in_order_and_further_fields_are_ignored(tmp_path):
    styles = []

    def allowance_of(style):
        styles.append(style)
        return Allowance(explanations=True)

    verdicts = list(check_pairs(write(tmp_path / "pairs.jsonl", GOOD, "", BAD), allowance_of))
    assert verdicts == [
        {"id": "a", "accepted": True, "reasons": []},
        {"id": "b", "accepted": False, "reasons": ["laterality"]},
    ]
    assert styles == ["explained", "explained"]


@pytest.mark.parametrize(
    "line", ["{not json secret", "[]", '"secret"', '{"id": "secret"}', json.dumps(GOOD | {"style": 3})]
)
def test_a_bad_line_is_named_by_its_number_and_not_by_its_text(tmp_path, line):
    checked = check_pairs(write(tmp_path / "pairs.jsonl", GOOD, line), lambda _: Allowance())
    assert next(checked)["id"] == "a"
    with pytest.raises(UsageError, match=r"pairs\.jsonl, line 2") as caught:
        next(checked)
    assert "secret" not in str(caught.value)
    assert "left knee" not in str(caught.value)


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"none\.jsonl cannot be read"):
        list(check_pairs(tmp_path / "none.jsonl", lambda _: Allowance()))
