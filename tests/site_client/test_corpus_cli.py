from __future__ import annotations

import json
import stat

import pytest
from corpus_support import keys_of, make_arm, make_site_of, rephrase_by_hand
from tests_support import fednotes_here

from site_client.folder import LeakageLimits
from site_client.leakage.report import read_report

SECRET = "Quixley"


@pytest.fixture
def filled(tmp_path):
    """Four training patients, one of whose rephrasings is rejected for two reasons and one for one."""
    notes = {
        "train": {
            p: [f"{p} has a cough and was sent by {SECRET} with a letter"] for p in ("Anna", "Boris", "Cleo", "Dan")
        },
        "validation": {"Ed": ["Ed is well and has nothing to report to anybody today."] * 2},
        "test": {"Flo": ["Flo is well."]},
    }
    site = make_site_of(tmp_path / "site", notes, limits=LeakageLimits(export_allowed=True))
    reasons = {"Anna": ["numbers", "negation"], "Boris": ["numbers"]}
    rephrase_by_hand(site, make_arm(), lambda c: ("A cough brought them here.", reasons.get(c.text.split()[0], [])))
    return site


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line]


def run(*arguments: object) -> str:
    done = fednotes_here("site", "corpus", *arguments)
    assert (done.returncode, done.stderr) == (0, done.stderr if "--json" not in arguments else "")
    return done.stdout


def test_counts_are_right_in_json(filled):
    found = json.loads(run("--site", filled.path, "--json"))
    assert found["notes"] == {"train": 4, "validation": 2, "test": 1}
    assert found["patients"] == {"train": 4, "validation": 1, "test": 1}
    [arm] = found["arms"]
    assert (arm["arm"], arm["judged"], arm["accepted"], arm["patients"]) == ("tiny.wikipedia", 4, 2, 2)
    assert arm["rejected"] == {"numbers": 2}
    assert arm["all_reasons"] == {"numbers": 2, "negation": 1}
    assert (arm["accepted_tokens"], arm["output_tokens"]) == (2 * 8, 4 * 8)
    assert found["synthetic_tokens"] == 16
    assert found["synthetic_share"] == 16 / (16 + found["real_tokens"])


def test_counts_are_plain_aligned_columns_in_a_pipe(filled):
    printed = run("--site", filled.path)
    lines = words(printed)
    assert lines[:4] == [
        ["split", "notes", "patients"],
        ["train", "4", "4"],
        ["validation", "2", "1"],
        ["test", "1", "1"],
    ]
    assert ["tiny.wikipedia", "4", "2", "16", "32", "2"] in lines
    assert ["tiny.wikipedia", "numbers", "2"] in lines
    assert printed.isascii()
    assert printed.splitlines()[-1].endswith("% synthetic.")


def test_site_without_rephrasings_counts_its_notes(tmp_path):
    site = make_site_of(tmp_path / "site", {"train": {"a": ["A cough."]}})
    assert run("--site", site.path).endswith("No rephrasings yet.\n")
    assert json.loads(run("--site", site.path, "--json"))["arms"] == []


def test_options_before_the_sub_command_are_refused_and_not_ignored(filled):
    done = fednotes_here("site", "corpus", "--site", filled.path, "leakage")
    assert done.returncode == 2
    assert done.stderr == (
        "error: Options stand behind the command.\nhint: fednotes site corpus leakage --site DIR ...\n"
    )


def test_leakage_is_written_and_printed_without_text_key_or_planted_string(filled, tmp_path):
    planted = tmp_path / "planted.txt"
    planted.write_text(f"{SECRET}\nZebedee\n")
    printed = run("leakage", "--site", filled.path, "--planted", planted)
    as_json = run("leakage", "--site", filled.path, "--planted", planted, "--json")
    assert json.loads(as_json) == json.loads(read_report(filled.corpus).model_dump_json())
    assert "Planted strings: 2, in notes 1." in printed
    assert stat.S_IMODE((filled.corpus / "leakage.json").stat().st_mode) == 0o600
    kept = (filled.corpus / "leakage.json").read_text()
    for text in (printed, as_json, kept):
        assert not [secret for secret in (SECRET, "Zebedee", "cough", *keys_of(filled)) if secret in text]


def test_what_is_beyond_a_limit_is_marked(filled):
    rephrase_by_hand(filled, make_arm("copy"), lambda c: f"{c.text} {c.text} {c.text} {c.text}")
    own, _ = run("leakage", "--site", filled.path).split("What stands in notes of other patients")
    copy, good = [line for line in own.splitlines() if "wikipedia" in line]
    assert "100.0% !" in copy
    assert "!" not in good


def test_control_can_be_left_out(filled):
    printed = run("leakage", "--site", filled.path, "--no-held-out")
    assert "held-out" not in printed
    assert read_report(filled.corpus).held_out_patients == 0


def test_export_goes_through_the_command(filled, tmp_path):
    filled_config = filled.path / "site.toml"
    filled_config.write_text(filled_config.read_text().replace("min_patients = 1", "min_patients = 2"))
    run("leakage", "--site", filled.path)
    out = tmp_path / "out.jsonl"
    assert json.loads(run("export", out, "--site", filled.path, "--dry-run", "--json"))["written"] is False
    assert f"{out}: 2 texts would be written.\n" in run("export", out, "--site", filled.path, "--dry-run")
    assert not out.exists()
    assert "2 texts" in run("export", out, "--site", filled.path, "--arm", "tiny.wikipedia")
    done = fednotes_here("site", "corpus", "export", out, "--site", filled.path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {out} exists already.\nhint: choose another name, or add --overwrite\n"


def test_table_on_a_terminal_has_lines(filled, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    printed = run("--site", filled.path)
    assert "│" in printed or "┃" in printed
