"""Planting: who goes in, who stays out, and that it happens once."""

import json
import stat
from collections import Counter

import pytest

from privacy.deidentify import mask
from privacy.split import split_patients
from protocols.errors import UsageError, WorkError
from site_client.audit.canaries import are_in_store, canary_path, draw_secret, plant, read_canaries, sentence
from site_client.store import read_split, write_notes


def test_included_canaries_are_training_notes_of_their_own_and_the_others_are_nowhere(patients):
    before = {split: read_split(patients.notes, split) for split in ("train", "validation", "test")}
    report = plant(patients, 40, repeats=3)
    file = read_canaries(patients)
    assert (report.canaries, report.repeats, report.training_notes) == (40, 3, 24)
    assert report.planted and not report.restored
    included, key = [c for c in file.canaries if c.included], patients.pseudonym_key()
    assert 5 < len(included) < 35  # all but one time in 10^6
    train = read_split(patients.notes, "train")
    assert train[: len(before["train"])] == before["train"]
    new = train[len(before["train"]) :]
    assert Counter(n.patient_key for n in new) == dict.fromkeys(file.keys(key, included=True), 3)
    assert {n.text for n in new} == {f"{c.sentence} Visit {v}." for c in included for v in (1, 2, 3)}
    assert len({n.note_key for n in train}) == len(train)
    for split in ("validation", "test"):
        assert read_split(patients.notes, split) == before[split]
    assert are_in_store(patients, file)


def test_the_sites_own_rule_trains_on_every_canary(patients):
    plant(patients, 40)
    file, key = read_canaries(patients), patients.pseudonym_key()
    for own in file.keys(key, included=True) | file.keys(key, included=False):
        assert split_patients([own], patients.config().name) == {own: "train"}


def test_coins_and_secrets_are_for_the_owner_alone_and_hidden_from_logs(patients):
    plant(patients, 20)
    file = read_canaries(patients)
    assert stat.S_IMODE(canary_path(patients).stat().st_mode) == 0o600
    assert not any(c.secret in f"{c!r} {file!r}" or str(c.included) in repr(c) for c in file.canaries)
    assert sorted(p.name for p in (patients.path / "keys").iterdir()) == ["canaries.json", "pseudonym.key"]


def test_dry_run_changes_nothing(patients):
    notes = patients.notes.read_bytes()
    assert not plant(patients, 20, dry_run=True).planted
    assert patients.notes.read_bytes() == notes
    assert read_canaries(patients) is None


def test_second_planting_is_refused(patients):
    plant(patients, 20)
    coins, notes = canary_path(patients).read_bytes(), patients.notes.read_bytes()
    with pytest.raises(UsageError, match="has canaries already"):
        plant(patients, 20)
    assert canary_path(patients).read_bytes() == coins
    assert patients.notes.read_bytes() == notes


def test_canaries_that_a_new_ingest_took_out_are_put_back_with_their_coins(patients):
    old = {split: read_split(patients.notes, split) for split in ("train", "test")}
    plant(patients, 20)
    file, planted = read_canaries(patients), read_split(patients.notes, "train")
    splits = {n.patient_key: split for split, notes in old.items() for n in notes}
    write_notes(patients.notes, [n for notes in old.values() for n in notes], splits)
    assert not are_in_store(patients, file)
    report = plant(patients, 99)
    assert report.restored
    assert report.canaries == 20
    assert read_canaries(patients) == file
    assert sorted(n.note_key for n in read_split(patients.notes, "train")) == sorted(n.note_key for n in planted)


def test_killed_between_coins_and_notes_the_next_call_finishes(patients, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("site_client.audit.canaries.add_notes", killed)
        with pytest.raises(KeyboardInterrupt):
            plant(patients, 20)
    file = read_canaries(patients)
    plant(patients, 20)
    assert read_canaries(patients) == file
    assert are_in_store(patients, file)


@pytest.mark.parametrize(("count", "repeats"), [(15, 1), (20, 0)])
def test_numbers_that_show_nothing_are_refused(patients, count, repeats):
    with pytest.raises(UsageError, match="show nothing"):
        plant(patients, count, repeats=repeats)


def test_site_below_its_own_limit_is_not_lifted_over_it(tmp_path):
    from corpus_support import make_site_of

    site = make_site_of(tmp_path / "site", {"train": {f"p{i}": ["Wound is clean."] for i in range(4)}}, min_patients=5)
    with pytest.raises(UsageError, match="fewer than 5 training patients"):
        plant(site, 20)


def test_site_without_notes_is_refused(tmp_path):
    from site_client.folder import SiteConfig, SiteFolder

    site = SiteFolder.create(tmp_path / "empty", SiteConfig(name="Empty", number=1))
    with pytest.raises(UsageError, match="no notes"):
        plant(site, 20)
    assert read_canaries(site) is None


def test_damaged_file_is_told_without_its_contents(patients):
    canary_path(patients).write_text(json.dumps({"canaries": ["kobu lita"]}))
    with pytest.raises(WorkError, match="cannot be read") as error:
        plant(patients, 20)
    assert "kobu" not in str(error.value)


def test_secrets_differ_and_hold_nothing_that_deidentification_takes_out():
    secrets = [draw_secret() for _ in range(500)]
    assert len(set(secrets)) == 500
    assert all(len(s.split()) == 6 for s in secrets)
    assert all(mask(sentence(s)) == (sentence(s), {}) for s in secrets)
