from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from corpus_support import keys_of, make_arm, make_site_of, rephrase_by_hand

from protocols.errors import StorageError, UsageError, WorkError
from site_client import export_rows
from site_client.export import export_corpus
from site_client.export_rows import ExportRow, Shuffled
from site_client.folder import LeakageLimits, SiteFolder
from site_client.leakage.identifiers import Planted
from site_client.leakage.measure import measure_leakage
from site_client.leakage.report import write_report

ALLOWED = LeakageLimits(export_allowed=True)
HARMLESS = LeakageLimits(
    export_allowed=True,
    max_verbatim_words=1_000,
    max_rare_ngram_share=1,
    max_identifiers_per_1000=1e6,
    max_near_copy_share=1,
)
NAMES = ("Anna", "Boris", "Clara", "Dmitri", "Elena", "Fatima", "Georg", "Hanna", "Igor", "Jana", "Karl", "Lena")


def make_site(folder: Path, limits: LeakageLimits = ALLOWED, min_patients: int = 1) -> SiteFolder:
    notes = {name: [f"{name} came with pain number {i} in the left knee"] for i, name in enumerate(NAMES)}
    return make_site_of(folder / "site", {"train": notes}, limits=limits, min_patients=min_patients)


def paraphrase(chunk) -> str:
    return f"A visit because of knee {len(chunk.text)} {chunk.chunk_key[5:7]}zz"


@pytest.fixture
def ready(tmp_path) -> SiteFolder:
    """A site with two arms and a report of them that keeps to all limits."""
    site = make_site(tmp_path)
    rephrase_by_hand(site, make_arm("large"), paraphrase)
    rephrase_by_hand(site, make_arm("small", "soap"), paraphrase)
    write_report(site.corpus, measure_leakage(site))
    return site


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def refusal(kind: type[Exception], site: SiteFolder, out: Path, *names: str, **options) -> tuple[str, str | None]:
    """Message and hint of a refused export, after which there is no file."""
    with pytest.raises(kind) as caught:
        export_corpus(site, out, names, **options)
    assert type(caught.value) is kind
    assert not out.exists() or options.get("overwrite") is False
    assert not (site.corpus / "exports.jsonl").exists()
    assert not (site.corpus / ".scratch").exists()
    return caught.value.message, caught.value.hint


def test_export_has_texts_and_what_wrote_them_and_no_key(ready, tmp_path):
    out = tmp_path / "out.jsonl"
    report = export_corpus(ready, out)
    found = rows(out)
    assert {tuple(row) for row in found} == {("text", "arm", "prompt", "model", "revision")}
    assert {tuple(list(row.values())[1:]) for row in found} == {
        ("large.wikipedia", "wikipedia", "large", "r1"),
        ("small.soap", "soap", "small", "r1"),
    }
    assert len(found) == report.rows == 24
    assert report.arms == {"large.wikipedia": 12, "small.soap": 12}
    keys = keys_of(ready)
    assert len(keys) == 12 * 3 + 24
    assert not [key for key in keys if key in out.read_text()]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_parquet_has_the_same_rows(ready, tmp_path):
    export_corpus(ready, tmp_path / "out.jsonl")
    export_corpus(ready, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["text", "arm", "prompt", "model", "revision"]

    def by_text(found):
        return sorted(found, key=lambda row: sorted(row.items()))

    assert by_text(table.to_pylist()) == by_text(rows(tmp_path / "out.jsonl"))
    content = (tmp_path / "out.parquet").read_bytes()
    assert not [key for key in keys_of(ready) if key.encode() in content]


def test_one_arm_alone_can_be_exported(ready, tmp_path):
    assert export_corpus(ready, tmp_path / "out.jsonl", ["small.soap"]).arms == {"small.soap": 12}
    assert {row["arm"] for row in rows(tmp_path / "out.jsonl")} == {"small.soap"}


def test_rejected_rephrasings_are_not_exported(tmp_path):
    site = make_site(tmp_path)
    rephrase_by_hand(site, make_arm(), lambda c: (paraphrase(c), ["numbers"] if c.text.startswith("Anna") else []))
    write_report(site.corpus, measure_leakage(site))
    assert export_corpus(site, tmp_path / "out.jsonl").rows == 11


def test_order_is_another_one_each_time_and_not_that_of_the_results(ready, tmp_path):
    orders = []
    for i in range(3):
        export_corpus(ready, tmp_path / f"{i}.jsonl")
        orders.append([row["text"] for row in rows(tmp_path / f"{i}.jsonl")])
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1] != orders[2] != orders[0]  # by chance equal once in 24! tries
    assert all(
        [row["arm"] for row in rows(tmp_path / f"{i}.jsonl")] != ["large"] * 12 + ["small"] * 12 for i in range(3)
    )


@pytest.mark.parametrize("piles", [2, 64])
def test_piles_on_the_disk_give_every_row_once_in_a_uniform_order(tmp_path, monkeypatch, piles):
    """Over many draws, each of four rows comes first about equally often, with every row on its way through a pile."""
    monkeypatch.setattr(export_rows, "_HELD", 1)
    monkeypatch.setattr(export_rows, "_PILES", piles)
    firsts = dict.fromkeys("abcd", 0)
    for i in range(400):
        folder = tmp_path / str(i)
        folder.mkdir()
        shuffled = Shuffled(folder)
        for text in "abcd":
            shuffled.add(ExportRow(text=text, arm="a", prompt="p", model="m", revision="r"))
        texts = [json.loads(line)["text"] for line in shuffled.lines()]
        assert sorted(texts) == list("abcd")
        firsts[texts[0]] += 1
    assert all(50 < n < 150 for n in firsts.values()), firsts  # 100 expected, deviation 8.7


def test_line_breaks_and_half_surrogates_in_a_text_do_not_break_the_file(tmp_path):
    site = make_site(tmp_path)
    rephrase_by_hand(site, make_arm(), lambda _: "first\nsecond\u2028third\x85 \ud83d \u00e4")
    write_report(site.corpus, measure_leakage(site))
    for name in ("out.jsonl", "out.parquet"):
        export_corpus(site, tmp_path / name)
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert {json.loads(line)["text"] for line in lines} == {"first\nsecond\u2028third\x85 ? \u00e4"}
    assert len(lines) == pq.read_metadata(tmp_path / "out.parquet").num_rows == 12


def test_every_export_is_written_down_with_its_digest(ready, tmp_path):
    for name in ("one.jsonl", "two.parquet"):
        export_corpus(ready, tmp_path / name)
    log = ready.corpus / "exports.jsonl"
    entries = rows(log)
    assert [e["file"] for e in entries] == ["one.jsonl", "two.parquet"]
    for entry in entries:
        content = (tmp_path / entry["file"]).read_bytes()
        assert (entry["sha256"], entry["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
        assert (entry["rows"], entry["arms"]) == (24, {"large.wikipedia": 12, "small.soap": 12})
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_dry_run_checks_everything_and_writes_nothing(ready, tmp_path):
    report = export_corpus(ready, tmp_path / "out.jsonl", dry_run=True)
    assert (report.rows, report.written, report.sha256) == (24, False, "")
    assert not (tmp_path / "out.jsonl").exists()
    assert not (ready.corpus / "exports.jsonl").exists()


def test_site_that_says_nothing_allows_no_export(tmp_path):
    site = make_site(tmp_path, LeakageLimits())
    assert refusal(UsageError, site, tmp_path / "out.jsonl") == (
        f"{site.path / 'site.toml'} does not allow an export: synthetic text is patient data.",
        "if your data protection officer agrees, set export_allowed = true in [leakage]",
    )


def test_unknown_ending_is_refused(ready, tmp_path):
    assert refusal(UsageError, ready, tmp_path / "out.csv") == (
        "out.csv is neither .jsonl nor .parquet.",
        "give the file one of these endings",
    )


def test_file_that_is_there_is_replaced_on_request_alone(ready, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    assert refusal(UsageError, ready, out, overwrite=False) == (
        f"{out} exists already.",
        "choose another name, or add --overwrite",
    )
    assert out.read_text() == "mine"
    out.chmod(0o644)
    export_corpus(ready, out, overwrite=True)
    assert len(rows(out)) == 24
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_export_without_a_report_is_refused(tmp_path):
    site = make_site(tmp_path)
    rephrase_by_hand(site, make_arm(), paraphrase)
    assert refusal(UsageError, site, tmp_path / "out.jsonl") == (
        "There is no leakage report of this corpus.",
        "fednotes site corpus leakage",
    )


def test_arm_that_is_not_there_is_refused(ready, tmp_path):
    assert refusal(UsageError, ready, tmp_path / "out.jsonl", "huge.soap") == (
        "There is no arm 'huge.soap'.",
        "choose of: large.wikipedia, small.soap",
    )


def test_arm_that_was_not_measured_is_refused(ready, tmp_path):
    rephrase_by_hand(ready, make_arm("new"), paraphrase)
    assert refusal(WorkError, ready, tmp_path / "out.jsonl") == (
        "The leakage report does not cover new.wikipedia.",
        "measure again: fednotes site corpus leakage",
    )


def test_report_of_another_fingerprint_is_stale(ready, tmp_path):
    rephrase_by_hand(ready, make_arm("large", seed=1), paraphrase)
    assert refusal(WorkError, ready, tmp_path / "out.jsonl") == (
        "The leakage report is stale: large.wikipedia has another prompt, model or seed now.",
        "measure again: fednotes site corpus leakage",
    )
    assert export_corpus(ready, tmp_path / "out.jsonl", ["small.soap"]).rows == 12


def rewritten(site: SiteFolder, change) -> None:
    from site_client.rephrasing.corpus_folder import CorpusFolder

    results = CorpusFolder(site).current_arms()[0].results
    results.rewrite(iter(change(list(results.read()))))


def test_one_accepted_result_more_or_less_makes_the_report_stale(ready, tmp_path):
    rewritten(ready, lambda results: results[1:])
    assert refusal(WorkError, ready, tmp_path / "out.jsonl") == (
        "The leakage report is stale: large.wikipedia has 11 accepted rephrasings that are not the 12 measured ones.",
        "measure again: fednotes site corpus leakage",
    )


def test_one_changed_text_makes_the_report_stale(ready, tmp_path):
    from dataclasses import replace

    rewritten(ready, lambda results: [replace(results[0], text="Anna came with pain"), *results[1:]])
    message, _ = refusal(WorkError, ready, tmp_path / "out.jsonl")
    assert message.endswith("large.wikipedia has 12 accepted rephrasings that are not the 12 measured ones.")


def test_another_order_of_the_same_results_keeps_the_report_fresh(ready, tmp_path):
    rewritten(ready, lambda results: results[::-1])
    assert export_corpus(ready, tmp_path / "out.jsonl").rows == 24


def beyond(folder: Path, write, planted: Planted | None = None, **limits) -> tuple[str, str | None]:
    site = make_site(folder, HARMLESS.model_copy(update=limits))
    rephrase_by_hand(site, make_arm(), write)
    write_report(site.corpus, measure_leakage(site, planted=planted))
    return refusal(WorkError, site, folder / "out.jsonl")


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_verbatim_words": 9}, "longest run of words from the source (p95) 10, limit 9"),
        ({"max_rare_ngram_share": 0.5}, "rare n-grams kept 1, limit 0.5"),
        ({"max_identifiers_per_1000": 999.0}, "identifiers to 1,000 rephrasings 1000, limit 999"),
        ({"max_planted_surviving": 0}, "planted strings that survived 2, limit 0"),
    ],
)
def test_limit_that_is_passed_is_told_with_arm_measure_value_and_limit(tmp_path, limits, said):
    planted = Planted(["Anna came", "Boris", "Zebedee"])
    limits = {"max_planted_surviving": 100} | limits
    message, hint = beyond(tmp_path, lambda c: f"{c.text} 555-123-4567", planted, **limits)
    assert message == f"Nothing was exported. Beyond the limits of [leakage] in site.toml: tiny.wikipedia: {said}."
    assert hint == "rephrase with another model or prompt; a limit is the site's to change"


def test_near_copies_beyond_the_limit_are_told(tmp_path):
    other = "Boris came with pain number 1 in the left knee"
    message, _ = beyond(tmp_path, lambda c: other if c.text.startswith("Anna") else "fine", max_near_copy_share=0.05)
    assert message.endswith("tiny.wikipedia: near-copies of other patients' notes 0.08333, limit 0.05.")


def test_all_limits_are_told_at_once_and_the_arms_that_keep_to_them_are_named(ready, tmp_path):
    rephrase_by_hand(ready, make_arm("copy"), lambda c: f"{c.text} {c.text} and {c.text} a.b@example.org")
    write_report(ready.corpus, measure_leakage(ready))
    message, hint = refusal(WorkError, ready, tmp_path / "out.jsonl")
    assert message == (
        "Nothing was exported. Beyond the limits of [leakage] in site.toml: "
        "copy.wikipedia: rare n-grams kept 1, limit 0.15; "
        "copy.wikipedia: identifiers to 1,000 rephrasings 1000, limit 1."
    )
    assert hint == "export what keeps to them: --arm large.wikipedia --arm small.soap"
    assert export_corpus(ready, tmp_path / "out.jsonl", ["large.wikipedia", "small.soap"]).rows == 24


@pytest.mark.parametrize(("least", "refused"), [(12, False), (13, True)])
def test_arm_of_too_few_patients_is_refused(tmp_path, least, refused):
    site = make_site(tmp_path, min_patients=least)
    rephrase_by_hand(site, make_arm(), paraphrase)
    write_report(site.corpus, measure_leakage(site))
    if not refused:
        assert export_corpus(site, tmp_path / "out.jsonl").rows == 12
        return
    assert refusal(WorkError, site, tmp_path / "out.jsonl") == (
        "Nothing was exported. tiny.wikipedia has rephrasings of fewer patients than min_patients = 13 in [limits] of "
        "site.toml.",
        "rephrase more notes, or name other arms with --arm",
    )


def test_site_without_arms_has_nothing_to_export(ready, tmp_path):
    for arm in ("large.wikipedia", "small.soap"):
        (ready.corpus / arm / "current").unlink()
    assert refusal(UsageError, ready, tmp_path / "out.jsonl") == (
        f"There are no rephrasings in {ready.corpus} yet.",
        "fednotes site rephrase",
    )


def test_full_disk_leaves_no_file_and_no_text_behind(ready, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("site_client.export.write_rows", full)
    refusal(StorageError, ready, tmp_path / "out.jsonl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["site"]


def test_no_message_holds_a_text_or_a_key(tmp_path):
    """All refusals of this file at once, for a corpus that is as bad as can be."""
    site = make_site(tmp_path, HARMLESS.model_copy(update={"max_rare_ngram_share": 0.0}))
    rephrase_by_hand(site, make_arm(), lambda c: c.text)
    write_report(site.corpus, measure_leakage(site, planted=Planted(["Fatima"])))
    message, hint = refusal(WorkError, site, tmp_path / "out.jsonl")
    assert not [name for name in (*NAMES, "knee", *keys_of(site)) if name in f"{message}{hint}"]
