"""Each measure against an example that was worked out by hand."""

from __future__ import annotations

import random
import stat
import tracemalloc
from pathlib import Path

import pytest
from corpus_support import keys_of, make_arm, make_site_of, rephrase_by_hand
from filelock import FileLock

from privacy.deidentify import mask
from protocols.errors import UsageError, WorkError
from site_client.leakage import run_index
from site_client.leakage.identifiers import Planted
from site_client.leakage.measure import measure_leakage
from site_client.leakage.report import read_report, write_report

ANNA = "Anna keeps forty two pigeons on her roof and fell from the ladder while feeding them"  # 16 words
BORIS = "Boris repairs church organs and swallowed a small brass screw during the work last Tuesday"  # 15 words
CLARA = "Clara sails alone and was stung by a jellyfish near the old lighthouse in strong wind"
FRESH = "somebody came because of something quite unlike anything that was written above or below here"
FRESHER = "in this version all sentences were turned around until none of their parts looked familiar anymore"


def one_arm(folder: Path, notes, written: dict[str, str], **options):
    """The facts of one arm in which the chunk that begins with a word is rephrased as given."""
    site = make_site_of(folder / "site", notes)
    rephrase_by_hand(site, make_arm(), lambda chunk: written.get(chunk.text.split()[0]))
    report = measure_leakage(site, **options)
    [arm] = report.arms
    return report, arm


def test_copy_of_the_source_is_verbatim_to_its_whole_length_and_keeps_every_rare_ngram(tmp_path):
    notes = {"train": {"a": [ANNA], "b": [BORIS]}}
    _, arm = one_arm(tmp_path, notes, {"Anna": ANNA.upper() + "!", "Boris": FRESH})
    assert (arm.rephrasings, arm.patients) == (2, 2)
    assert (arm.verbatim.words.p50, arm.verbatim.words.max) == (0, 16)
    assert arm.verbatim.characters.max == len(ANNA)
    assert (arm.rare_ngrams.in_sources, arm.rare_ngrams.kept) == (12 + 11, 12)  # runs of five among 16 and 15 words
    assert arm.near_copies.share == arm.near_copies.largest == arm.rare_ngrams.of_others_per_1000 == 0


def test_share_above_the_limit_counts_rephrasings_beyond_it(tmp_path):
    long = "alpha " + " ".join(f"word{i}" for i in range(30))
    _, arm = one_arm(tmp_path, {"train": {"a": [ANNA], "b": [long]}}, {"Anna": ANNA, "alpha": long})
    assert arm.verbatim.share_above == 0.5  # 16 words are within the limit of 20, 31 are not


def test_ngram_that_two_patients_have_is_not_rare(tmp_path):
    both = "and she takes lisinopril ten milligrams"  # two runs of five
    notes = {"train": {"a": [f"Anna {both}"], "b": [f"Boris {both}"]}}
    _, arm = one_arm(tmp_path, notes, {"Anna": f"Anna {both}"})
    assert (arm.rare_ngrams.in_sources, arm.rare_ngrams.kept) == (1, 1)  # "Anna and she takes lisinopril"


def test_ngram_that_one_patient_has_in_two_notes_is_rare(tmp_path):
    notes = {"train": {"a": [ANNA, f"Again {ANNA}"], "b": [BORIS]}}
    _, arm = one_arm(tmp_path, notes, {"Anna": FRESH})
    assert (arm.rare_ngrams.in_sources, arm.rare_ngrams.kept, arm.rare_ngrams.share_kept) == (12, 0, 0)


def test_sentence_of_another_patient_is_a_near_copy_and_its_ngrams_are_foreign(tmp_path):
    notes = {"train": {"a": [ANNA], "b": [BORIS]}}
    _, arm = one_arm(tmp_path, notes, {"Anna": f"{FRESH}. {BORIS}.", "Boris": FRESHER})
    assert arm.near_copies.share == 0.5
    assert arm.near_copies.largest == pytest.approx(8 / 23)  # eight of 15 + 15 - 7 shingles
    ngrams = (15 + 15 - 4) + (16 - 4)
    assert arm.rare_ngrams.of_others_per_1000 == pytest.approx(1000 * 11 / ngrams)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")], ids="-".join)
def test_sentence_that_the_own_notes_share_with_another_patient_is_no_near_copy(tmp_path, order):
    texts = {"a": [ANNA, f"Older. {BORIS}"], "b": [BORIS]}
    notes = {"train": {patient: texts[patient] for patient in order}}
    _, arm = one_arm(tmp_path, notes, {"Anna": f"{FRESH}. {BORIS}."})
    assert arm.near_copies.largest == 0


def test_template_of_three_patients_is_counted_apart(tmp_path):
    notes = {"train": {"a": [ANNA], **{p: [f"{p} says: {BORIS}"] for p in ("b", "c", "d")}}, "test": {"e": [CLARA]}}
    _, arm = one_arm(tmp_path, notes, {"Anna": f"{FRESH}. {BORIS}."})
    assert arm.near_copies.largest == arm.near_copies.share_by_chance == 0
    assert arm.near_copies.template_share == pytest.approx(8 / 23)
    assert arm.rare_ngrams.of_others_per_1000 == 0


def test_template_around_a_near_copy_does_not_thin_it_out(tmp_path):
    notes = {"train": {"a": [ANNA], "e": [CLARA], **{p: [f"{p} says: {BORIS}"] for p in ("b", "c", "d")}}}
    _, arm = one_arm(tmp_path, notes, {"Anna": f"{BORIS}. {CLARA}."})
    assert arm.near_copies.largest == pytest.approx(9 / (15 + 16 - 7 - 8))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_text_in_a_rephrasing_is_chance_and_not_another_training_patients(tmp_path, split):
    notes = {"train": {"a": [ANNA], "b": [BORIS]}, split: {"c": [CLARA]}}
    report, arm = one_arm(tmp_path, notes, {"Anna": f"{FRESH}. {CLARA}.", "Boris": FRESHER})
    assert (report.training_patients, report.held_out_patients) == (2, 1)
    assert arm.near_copies.share == 0
    # Training patients have 9 + 8 shingles and 12 + 11 rare n-grams, the held-out one has 9 and 12.
    assert arm.near_copies.share_by_chance == pytest.approx(0.5 * 17 / 9)
    ngrams = (15 + 16 - 4) + (16 - 4)
    assert arm.rare_ngrams.by_chance_per_1000 == pytest.approx(1000 * 12 * 23 / 12 / ngrams)


def test_without_the_control_nothing_is_said_about_chance(tmp_path):
    notes = {"train": {"a": [ANNA]}, "test": {"c": [CLARA]}}
    report, arm = one_arm(tmp_path, notes, {"Anna": FRESH}, held_out=False)
    assert report.held_out_patients == 0
    assert arm.near_copies.share_by_chance is arm.rare_ngrams.by_chance_per_1000 is None


def test_unrelated_text_has_overlap_like_that_of_the_control(tmp_path):
    """Words at random are as near to training patients as to held-out ones: what is scaled is not biased."""
    draw = random.Random(0)

    def text() -> str:
        return " ".join(draw.choices("abcdefgh", k=100))

    patients = [f"p{i}" for i in range(60)]
    notes = {"train": {p: [text()] for p in patients[:45]}, "validation": {p: [text()] for p in patients[45:]}}
    site = make_site_of(tmp_path / "site", notes)
    rephrase_by_hand(site, make_arm(), lambda _: text())
    rare = measure_leakage(site).arms[0].rare_ngrams
    assert rare.of_others_per_1000 > 100
    assert rare.by_chance_per_1000 == pytest.approx(rare.of_others_per_1000, rel=0.15)


def test_planted_strings_are_counted_in_notes_and_in_rephrasings(tmp_path):
    notes = {"train": {"a": [f"{ANNA}. Seen by Dr. Quixley-Ombo, MRN 55-12."], "b": [BORIS]}, "test": {"c": [CLARA]}}
    planted = Planted(["Quixley-Ombo", "55-12", "Zebedee", "jellyfish near", "Quixley-Ombo", ""])
    report, arm = one_arm(tmp_path, notes, {"Anna": f"dr QUIXLEY OMBO, {FRESH}"}, planted=planted)
    assert (report.planted, report.planted_in_notes) == (4, 2)
    assert arm.identifiers.planted_surviving == 1
    for string in ("quixley", "55-12", "zebedee"):
        assert string not in report.model_dump_json().lower()


def test_forms_of_identifiers_are_counted_by_kind(tmp_path):
    text = "Call 555-123-4567 or 555 123 4568, SSN 123-45-6789, a.b@example.org"
    assert mask(text)[1] == {"phone": 2, "ssn": 1, "email": 1}
    assert mask("see www.example.org/10.0.0.1 for more")[1] == {"url": 1}  # its address is no second one
    notes = {"train": {"a": [ANNA], "b": [BORIS]}}
    _, arm = one_arm(tmp_path, notes, {"Anna": text, "Boris": FRESH})
    assert arm.identifiers.by_kind == {"email": 1, "phone": 2, "ssn": 1}
    assert arm.identifiers.per_1000 == 2000
    assert arm.identifiers.planted_surviving is None


def test_commonest_opening_is_measured(tmp_path):
    notes = {"train": {"a": [ANNA], "b": [BORIS], "c": [CLARA]}}
    written = {"Anna": f"The patient was {FRESH}", "Boris": f"the patient, was {FRESHER}", "Clara": FRESH}
    _, arm = one_arm(tmp_path, notes, written)
    assert arm.opening_share == pytest.approx(2 / 3)


def test_same_words_further_on_are_no_opening(tmp_path):
    notes = {"train": {"a": [ANNA], "b": [BORIS]}}
    _, arm = one_arm(tmp_path, notes, {"Anna": "one two three four", "Boris": "zero one two three"})
    assert arm.opening_share == 0.5


def test_rejected_results_and_those_of_changed_notes_are_left_out(tmp_path):
    site = make_site_of(tmp_path / "one", {"train": {"a": [ANNA], "b": [BORIS], "c": [CLARA]}})
    rephrase_by_hand(site, make_arm(), lambda chunk: (ANNA, ["copy"] if chunk.text.startswith("Boris") else []))
    assert measure_leakage(site).arms[0].rephrasings == 2
    changed = make_site_of(tmp_path / "two", {"train": {"a": [ANNA], "b": [BORIS], "c": ["Clara left."]}})
    site.notes.write_bytes(changed.notes.read_bytes())
    assert measure_leakage(site).arms[0].rephrasings == 1


def test_every_arm_is_measured_by_itself(tmp_path):
    site = make_site_of(tmp_path / "site", {"train": {"a": [ANNA], "b": [BORIS]}})
    rephrase_by_hand(site, make_arm("large"), lambda _: FRESH)
    rephrase_by_hand(site, make_arm("small"), lambda chunk: chunk.text)
    large, small = measure_leakage(site).arms
    assert (large.arm, small.arm) == ("large.wikipedia", "small.wikipedia")
    assert (large.rare_ngrams.share_kept, small.rare_ngrams.share_kept) == (0, 1)
    assert large.digest != small.digest


def test_arm_without_an_accepted_rephrasing_has_zeros(tmp_path):
    site = make_site_of(tmp_path / "site", {"train": {"a": ["Short."]}})
    rephrase_by_hand(site, make_arm(), lambda _: ("x", ["length"]))
    [arm] = measure_leakage(site).arms
    assert (arm.rephrasings, arm.patients, arm.verbatim.words.max, arm.opening_share) == (0, 0, 0, 0)


def test_report_holds_no_key_and_comes_back_equal(tmp_path):
    site = make_site_of(tmp_path / "site", {"train": {"a": [ANNA], "b": [BORIS]}})
    rephrase_by_hand(site, make_arm(), lambda _: FRESH)
    report = measure_leakage(site)
    write_report(site.corpus, report)
    assert read_report(site.corpus) == report
    path = site.corpus / "leakage.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not [key for key in keys_of(site) if key in path.read_text()]


def test_nothing_but_the_lock_is_left_behind_and_what_a_kill_left_is_taken_away(tmp_path):
    site = make_site_of(tmp_path / "site", {"train": {"a": [ANNA]}})
    rephrase_by_hand(site, make_arm(), lambda _: FRESH)
    (site.corpus / ".scratch").mkdir()
    (site.corpus / ".scratch" / "ngrams.part00").write_bytes(b"left by a kill")
    measure_leakage(site)
    assert sorted(p.name for p in site.corpus.iterdir()) == [".scratch.lock", "tiny.wikipedia"]


def test_second_measurement_at_the_same_time_is_refused(tmp_path):
    site = make_site_of(tmp_path / "site", {"train": {"a": [ANNA]}})
    rephrase_by_hand(site, make_arm(), lambda _: FRESH)
    with FileLock(site.corpus / ".scratch.lock"), pytest.raises(UsageError) as caught:
        measure_leakage(site)
    assert caught.value.message == f"Another process measures or exports the corpus in {site.corpus}."


def test_site_without_rephrasings_says_what_to_do(tmp_path):
    site = make_site_of(tmp_path / "site", {"train": {"a": [ANNA]}})
    with pytest.raises(UsageError) as caught:
        measure_leakage(site)
    assert caught.value.message == f"There are no rephrasings in {site.corpus} yet."
    assert caught.value.hint == "fednotes site rephrase"


@pytest.mark.parametrize("content", [b"{}", b"\xff", b'{"schema_version": 2}'])
def test_damaged_report_is_told_apart_from_a_missing_one(tmp_path, content):
    with pytest.raises(UsageError, match="There is no leakage report"):
        read_report(tmp_path)
    (tmp_path / "leakage.json").write_bytes(content)
    with pytest.raises(WorkError, match="cannot be read"):
        read_report(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), (b"\xff\xfe", "cannot be read"), (b"\n--\n", "no planted string")]
)
def test_file_of_planted_strings_that_is_none_is_refused(tmp_path, content, said):
    path = tmp_path / "planted.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        Planted.read(path)


def _large_site(folder: Path, notes: int):
    draw = random.Random(1)

    def text() -> str:
        return " ".join(f"w{draw.randrange(5000)}" for _ in range(40))

    site = make_site_of(folder, {"train": {f"p{i}": [text() for _ in range(20)] for i in range(notes // 20)}})
    rephrase_by_hand(site, make_arm(), lambda _: text())
    return site


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    """Twenty times the notes: a set of their n-grams would take 20 MB more."""
    monkeypatch.setattr(run_index, "_HELD", 4_000)
    measure_leakage(_large_site(tmp_path / "first", 20))  # what is loaded on first use is no growth
    peaks = []
    for notes in (200, 4_000):
        site = _large_site(tmp_path / str(notes), notes)
        tracemalloc.start()
        measure_leakage(site)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1_000_000
