"""The run: every job once, whatever fails; one arm at a time when something changes."""

from __future__ import annotations

import json
import signal
from collections import Counter
from dataclasses import replace

import pytest
from rephrasing_support import EchoEngine, make_arm, rephrase, reworded

from privacy.note_types import Chunk
from protocols.errors import UsageError
from site_client.engines.engine import Completion, EngineError
from site_client.gates import judge as gates
from site_client.rephrasing import run as run_module
from site_client.rephrasing.corpus_folder import CorpusFolder
from site_client.rephrasing.plan import Plan
from site_client.rephrasing.prompts import all_prompts
from site_client.rephrasing.reading import read_synthetic
from site_client.rephrasing.selection import training_chunks
from site_client.store import iter_split, write_notes


def results(site, arm):
    return list(CorpusFolder(site).arm(arm).results.read())


def chunks(site) -> list[Chunk]:
    return list(training_chunks(site.notes))


def test_the_rewordings_of_these_tests_pass_the_real_gates(site) -> None:
    [report] = rephrase(site, EchoEngine())
    assert report.counts.gates.accepted == report.counts.gates.judged == 24


def test_every_chunk_is_done_once_and_keeps_its_lineage(site) -> None:
    engine = EchoEngine()
    arm = make_arm(engine)
    [report] = rephrase(site, engine, [arm])
    by_job = {arm.job(c): c for c in chunks(site)}
    found = results(site, arm)
    assert Counter(r.job for r in found) == Counter(by_job.keys())
    for r in found:
        assert (r.chunk_key, r.note_key, r.patient_key) == (
            by_job[r.job].chunk_key,
            by_job[r.job].note_key,
            by_job[r.job].patient_key,
        )
    assert report.new == report.counts.gates.judged == len(by_job)
    assert engine.started == engine.closed == 1


def test_the_request_holds_the_prompt_with_context_and_text(site) -> None:
    engine = EchoEngine()
    arm = make_arm(engine, "explained")
    rephrase(site, engine, [arm])
    [request] = [r for r in engine.requests if r.source == chunks(site)[0].text][:1]
    assert request.prompt == arm.prompt.fill(chunks(site)[0]) and "Note type: Progress note" in request.prompt
    assert request.max_tokens > 3 * len(request.source.split())
    assert len({r.seed for r in engine.requests}) == len(engine.requests)


def test_at_most_a_window_is_open_and_the_engine_is_kept_busy(site) -> None:
    engine = EchoEngine(window=8)
    rephrase(site, engine)
    assert 5 <= engine.most_open <= 8


def test_running_again_does_nothing_new(site) -> None:
    rephrase(site, EchoEngine())
    again = EchoEngine()
    [report] = rephrase(site, again)
    assert again.requests == [] and report.new == 0 and report.tokens_per_second is None


def test_a_failing_engine_keeps_what_was_finished_and_the_next_run_goes_on(site) -> None:
    calls = 0

    def dies_after_ten(request):
        nonlocal calls
        calls += 1
        if calls > 10:
            raise EngineError("The machine is on fire.", hint="put it out")
        return reworded(request)

    with pytest.raises(EngineError, match="on fire"):
        rephrase(site, broken := EchoEngine(dies_after_ten))
    assert broken.closed == 1
    arm = make_arm(broken)
    kept = results(site, arm)
    assert 0 < len(kept) <= 10
    rephrase(site, engine := EchoEngine())
    assert len(engine.requests) == len(chunks(site)) - len(kept)
    assert Counter(r.job for r in results(site, arm)) == Counter(arm.job(c) for c in chunks(site))


def test_a_changed_prompt_does_that_arm_again_and_no_other(site) -> None:
    engine = EchoEngine()
    one, two = make_arm(engine, "professional"), make_arm(engine, "wikipedia")
    rephrase(site, engine, [one, two])
    changed = make_arm(engine, one.prompt.model_copy(update={"version": 2}))
    rephrase(site, again := EchoEngine(), [changed, two])
    assert {r.prompt_name for r in again.requests} == {"professional"}
    assert len(again.requests) == len(chunks(site))
    jobs = {s.job for s in read_synthetic(site)}
    assert not jobs & {r.job for r in results(site, one)}, "results of the old prompt are still read"
    # Going back costs nothing: the old results were kept.
    rephrase(site, back := EchoEngine(), [one, two])
    assert back.requests == [] and {s.job for s in read_synthetic(site)} & {r.job for r in results(site, one)}


def test_only_a_changed_or_new_note_is_done_again(site) -> None:
    rephrase(site, EchoEngine())
    splits = ("train", "validation", "test")
    notes = [n for split in splits for n in iter_split(site.notes, split)]
    of = {n.patient_key: split for split in splits for n in iter_split(site.notes, split)}
    changed = [replace(n, text=n.text + " Seen again today.") if n is notes[0] else n for n in notes]
    write_notes(site.notes, changed, of)
    rephrase(site, engine := EchoEngine())
    assert [r.source for r in engine.requests] == [c.text for c in chunks(site) if c.note_key == notes[0].note_key]


def test_what_was_written_for_a_note_that_is_gone_is_not_read(site) -> None:
    rephrase(site, EchoEngine())
    splits = ("train", "validation", "test")
    notes = [n for split in splits for n in iter_split(site.notes, split)]
    gone = notes[0].patient_key
    of = {n.patient_key: split for split in splits for n in iter_split(site.notes, split)}
    assert gone in {s.patient_key for s in read_synthetic(site)}
    write_notes(site.notes, [n for n in notes if n.patient_key != gone], of)
    assert gone not in {s.patient_key for s in read_synthetic(site)}


def test_a_patient_who_moves_out_of_training_takes_the_rephrasings_along(site) -> None:
    rephrase(site, EchoEngine())
    splits = ("train", "validation", "test")
    notes = [n for split in splits for n in iter_split(site.notes, split)]
    of = {n.patient_key: split for split in splits for n in iter_split(site.notes, split)}
    moved = notes[0].patient_key
    write_notes(site.notes, notes, of | {moved: "test"})
    assert moved not in {s.patient_key for s in read_synthetic(site)}


def test_the_order_of_the_corpus_does_not_depend_on_who_finished_first(site, make_site) -> None:
    other = make_site(number=8)
    other.notes.write_bytes(site.notes.read_bytes())
    rephrase(site, EchoEngine(window=1))
    rephrase(other, EchoEngine(window=64))
    assert [s.text for s in read_synthetic(site)] == [s.text for s in read_synthetic(other)]


def test_a_budget_is_reached_in_rounds_and_told_in_the_record(site) -> None:
    def half_copies(request):
        # A copy fails its gate, so half of the tokens do not count.
        return request.source if request.seed % 2 else reworded(request)

    arm = make_arm(EchoEngine())
    [report] = rephrase(site, EchoEngine(half_copies), [arm], Plan(token_budget=300))
    assert report.counts.accepted_tokens >= 300
    record = CorpusFolder(site).arm(arm).record()
    assert len(record.planned) > 1 and record.planned == sorted(record.planned)
    assert record.planned[-1] == report.counts.gates.judged < len(chunks(site))


def test_a_budget_that_was_killed_plans_the_same_rounds(site, make_site) -> None:
    other = make_site(number=8)
    other.notes.write_bytes(site.notes.read_bytes())
    arm = make_arm(EchoEngine())

    def half_copies(request):
        return request.source if request.seed % 2 else reworded(request)

    def dies(request):
        dies.calls += 1
        if dies.calls > 7:
            raise EngineError("dead")
        return half_copies(request)

    rephrase(site, EchoEngine(half_copies), [arm], Plan(token_budget=300))
    while True:
        dies.calls = 0
        try:
            rephrase(other, EchoEngine(dies), [arm], Plan(token_budget=300))
            break
        except EngineError:
            pass
    assert sorted(r.job for r in results(site, arm)) == sorted(r.job for r in results(other, arm))
    assert CorpusFolder(site).arm(arm).record().planned == CorpusFolder(other).arm(arm).record().planned


def test_changed_gates_judge_the_old_texts_anew_without_the_engine(site, monkeypatch) -> None:
    engine = EchoEngine()
    arm = make_arm(engine)
    rephrase(site, engine, [arm])
    before = results(site, arm)
    strict = arm.prompt.model_copy(update={"allows": arm.prompt.allows.model_copy(update={"max_length_ratio": 1.0})})
    stricter = make_arm(engine, strict)
    assert stricter.fingerprint == arm.fingerprint
    monkeypatch.setattr("site_client.rephrasing.rejudge.judge", lambda candidate: ("length",))
    [report] = rephrase(site, again := EchoEngine(), [stricter])
    assert again.requests == [] and report.counts.gates.rejected == {"length": len(before)}
    assert sorted((r.job, r.text) for r in results(site, arm)) == sorted((r.job, r.text) for r in before)


def test_gates_of_another_version_are_noticed(site, monkeypatch) -> None:
    rephrase(site, EchoEngine())
    judged = []
    monkeypatch.setattr(run_module, "GATES_VERSION", gates.VERSION + " new:1")
    monkeypatch.setattr(run_module, "judge_again", lambda *_: judged.append(1))
    rephrase(site, EchoEngine())
    rephrase(site, EchoEngine())
    assert judged == [1]


def test_a_second_opinion_only_ever_rejects(site) -> None:
    def reply(request):
        if request.prompt_name != "judge":
            return reworded(request)
        assert request.source in request.prompt and reworded(request) in request.prompt
        return ["FAITHFUL", "UNFAITHFUL", "I cannot say."][request.seed % 3]

    arm = make_arm(EchoEngine(), second_opinion=True)
    assert arm.fingerprint != make_arm(EchoEngine()).fingerprint
    rephrase(site, EchoEngine(reply), [arm])
    for r in results(site, arm):
        if r.reasons == [] or r.reasons == ["judge"]:
            assert (r.reasons == []) == ((int(r.job[:8], 16) >> 1) % 3 == 0)
    assert {tuple(r.reasons) for r in results(site, arm)} >= {(), ("judge",)}


def test_a_reply_that_was_cut_off_or_never_written_is_kept_as_rejected(site) -> None:
    def reply(request):
        reason = "length" if request.seed % 2 else "prompt_too_long"
        text = request.source + " And" if reason == "length" else ""
        return Completion(text=text, finish_reason=reason, prompt_tokens=9, output_tokens=9)

    engine = EchoEngine(reply)
    rephrase(site, engine)
    assert list(read_synthetic(site)) == []
    assert all(r.reasons for r in results(site, make_arm(engine)))
    rephrase(site, again := EchoEngine())
    assert again.requests == [], "a prompt that is too long stays too long"


def test_two_processes_do_not_rephrase_one_site(site) -> None:
    with CorpusFolder(site).locked(), pytest.raises(UsageError, match="Another process rephrases in"):
        rephrase(site, engine := EchoEngine())
    assert engine.closed == 1


def test_an_interrupt_keeps_what_was_finished(site) -> None:
    def interrupted(request):
        interrupted.calls += 1
        if interrupted.calls == 6:
            signal.raise_signal(signal.SIGINT)
        return reworded(request)

    interrupted.calls = 0
    with pytest.raises(KeyboardInterrupt):
        rephrase(site, engine := EchoEngine(interrupted, window=16))
    assert engine.closed == 1
    assert 6 <= len(results(site, make_arm(engine))) < len(chunks(site))


def test_files_are_the_owners_alone_and_hold_no_identifier(site) -> None:
    rephrase(site)
    arm = CorpusFolder(site).arm(make_arm())
    record = json.loads((arm.path / "arm.json").read_text())
    assert record["engine"] == "test" and record["arm"]["prompt"]["name"] == "professional"
    for path in site.corpus.rglob("*"):
        assert "train-" not in path.name
    assert "train-0" not in arm.results.path.read_text(), "a source identifier"


def test_prompts_that_the_rules_cannot_follow_are_refused(site) -> None:
    for name in set(all_prompts()) - {"professional", "wikipedia"}:
        with pytest.raises(UsageError, match="cannot follow the prompt"):
            rephrase(site, arms=[make_arm(prompt=name)])
