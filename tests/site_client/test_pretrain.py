from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests_support import REPOSITORY

from modeling.arrays import to_arrays
from modeling.release import load_model
from protocols.error_codes import ContractError, ErrorCode
from protocols.messages import InnerRecipe, SiteLimits, TrainRequest
from site_client.pretrain import LocalUpdate, _across_patients, train_round
from site_client.round_checkpoint import RoundProgress
from site_client.store import read_split

RECIPE = InnerRecipe(steps=3, rows=16, row_length=32, peak_lr=0.01)


@pytest.fixture(scope="module")
def weights(model_folder):
    return to_arrays(load_model(model_folder)[0])


def request(number: int, **fields: object) -> TrainRequest:
    values = {"study": "s", "round": number, "rounds": 5, "corpus": "real", "recipe": RECIPE, **fields}
    return TrainRequest(**values)  # type: ignore[arg-type]


def same(one: LocalUpdate, other: LocalUpdate) -> bool:
    return one.delta.keys() == other.delta.keys() and all(
        np.array_equal(one.delta[k], other.delta[k]) for k in one.delta
    )


def moved(weights, update: LocalUpdate):
    return {k: v + update.delta[k] for k, v in weights.items()}


def test_update_is_the_change_of_the_weights_and_says_what_was_done(site, weights):
    update = train_round(site, request(1), weights)
    assert {k: v.shape for k, v in update.delta.items()} == {k: v.shape for k, v in weights.items()}
    assert all(np.abs(v).max() > 0 for v in update.delta.values())
    assert all(np.abs(v).max() < 0.1 for v in update.delta.values())  # three small steps, not the weights themselves
    assert update.train_tokens == 3 * 16 * 32
    assert (update.round, update.train_patients, update.validation_patients) == (1, 12, 4)
    assert len(update.validation) == 8
    assert 4.0 < update.train_loss < 7.0


def test_same_request_twice_gives_bit_identical_updates(site, weights):
    assert same(train_round(site, request(1), weights), train_round(site, request(1), weights))


def test_two_sites_with_the_same_notes_give_the_same_update(make_site, weights):
    one, other = make_site(number=1), make_site(number=2)
    assert same(train_round(one, request(1), weights), train_round(other, request(1), weights))
    assert not same(
        train_round(make_site(number=3, seed=9), request(1), weights), train_round(one, request(1), weights)
    )


def test_second_round_goes_on_with_the_optimizer_of_the_first_and_can_be_asked_again(make_site, weights):
    faithful, late = make_site(number=1), make_site(number=2)
    after_one = moved(weights, train_round(faithful, request(1), weights))

    second = train_round(faithful, request(2), after_one)
    from_scratch = train_round(late, request(2), after_one)  # a site that joins late begins with a fresh optimizer
    again = train_round(faithful, request(2), after_one)

    assert not same(second, from_scratch)
    assert same(second, again)


def test_third_round_of_a_resumed_study_is_the_same_as_before(site, weights):
    updates, current = {}, weights
    received = {}
    for number in (1, 2, 3):
        received[number] = current
        updates[number] = train_round(site, request(number), current)
        current = moved(current, updates[number])
    assert same(train_round(site, request(3), received[3]), updates[3])
    kept = sorted(p.name for p in site.checkpoints("s").iterdir())
    assert kept == ["inside-round.pt", "optimizer-000002.pt", "optimizer-000003.pt"]


_DIES_AFTER_TWO_STEPS = """
import os, signal, sys
from pathlib import Path
from safetensors.numpy import load_file
import site_client.round_checkpoint as inside
from protocols.messages import TrainRequest
from site_client.folder import SiteFolder
from site_client.pretrain import train_round
keep = inside.RoundCheckpoint.keep
def keep_and_die(self, model, optimizer, progress):
    keep(self, model, optimizer, progress)
    if progress.steps == 2:
        os.kill(os.getpid(), signal.SIGKILL)
inside.RoundCheckpoint.keep = keep_and_die
inside.RoundCheckpoint.keep_when_due = keep_and_die
train_round(SiteFolder(Path(sys.argv[1])), TrainRequest.model_validate_json(sys.argv[2]), load_file(sys.argv[3]))
"""


@pytest.mark.slow
def test_a_killed_site_goes_on_inside_the_round_and_ends_where_it_would_have(make_site, weights, tmp_path, monkeypatch):
    killed, whole = make_site(number=1), make_site(number=2)
    save_file(weights, tmp_path / "weights")
    words = [
        sys.executable,
        "-c",
        _DIES_AFTER_TWO_STEPS,
        killed.path,
        request(1).model_dump_json(),
        tmp_path / "weights",
    ]
    done = subprocess.run(list(map(str, words)), cwd=REPOSITORY)
    assert done.returncode == -signal.SIGKILL
    steps = []
    monkeypatch.setattr(RoundProgress, "add", _counting(RoundProgress.add, steps))
    resumed = train_round(killed, request(1), weights)
    assert len(steps) == 1  # the third of three
    expected = train_round(whole, request(1), weights)
    assert same(resumed, expected)
    assert (resumed.train_loss, resumed.train_tokens) == (expected.train_loss, expected.train_tokens)


def _counting(add, steps):
    def count(self, tokens, loss):
        steps.append(1)
        add(self, tokens, loss)

    return count


def test_a_finished_round_that_is_asked_again_takes_no_step(make_site, weights, monkeypatch):
    site = make_site(number=1)
    first = train_round(site, request(1), weights)
    steps = []
    monkeypatch.setattr(RoundProgress, "add", _counting(RoundProgress.add, steps))
    assert same(train_round(site, request(1), weights), first) and steps == []
    other = {k: v + np.float32(0.001) for k, v in weights.items()}
    train_round(site, request(1), other)
    assert len(steps) == 3  # other weights: the round begins anew


def test_a_damaged_checkpoint_costs_the_round_nothing_but_time(make_site, weights):
    site = make_site(number=1)
    first = train_round(site, request(1), weights)
    (site.checkpoints("s") / "inside-round.pt").write_bytes(b"no such thing")
    assert same(train_round(site, request(1), weights), first)


def test_second_round_reads_on_in_the_corpus_and_in_the_schedule(make_site, weights):
    """Both begin with a fresh optimizer and the same weights: only the number of the round tells them apart."""
    one, other = make_site(number=1), make_site(number=2)
    assert not same(train_round(one, request(1), weights), train_round(other, request(2), weights))


def test_studies_do_not_share_their_optimizers(make_site, weights):
    one, other = make_site(number=1), make_site(number=2)
    train_round(one, request(1, study="first"), weights)
    assert same(train_round(one, request(2, study="second"), weights), train_round(other, request(2), weights))


def test_loss_goes_down_over_the_rounds(site, weights):
    current, losses, scores = weights, [], []
    for number in range(1, 6):
        update = train_round(site, request(number), current)
        current = moved(current, update)
        losses.append(update.train_loss)
        scores.append(sum(s.bits for s in update.validation))
    assert losses[-1] < losses[0] - 0.5
    assert scores[-1] < scores[0] * 0.95


def test_validation_scores_the_weights_as_received(site, weights):
    first, other = train_round(site, request(1), weights), train_round(site, request(4), weights)
    assert first.validation == other.validation


def test_weights_of_another_model_are_refused(site, weights):
    for wrong in (
        {k: v for k, v in weights.items() if k != "model.norm.weight"},
        {**weights, "model.norm.weight": np.zeros(65, np.float32)},
        {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]},
    ):
        with pytest.raises(ContractError) as caught:
            train_round(site, request(1), wrong)
        assert caught.value.code == ErrorCode.MANIFEST_MISMATCH
    assert not site.checkpoints("s").exists()


def test_too_few_patients_are_refused_before_any_training(make_site, weights, monkeypatch):
    enough, too_few = (
        make_site(number=1, limits=SiteLimits(min_patients=12)),
        make_site(number=2, limits=SiteLimits(min_patients=13)),
    )
    assert train_round(enough, request(1), weights).train_patients == 12

    monkeypatch.setattr("site_client.pretrain.train_steps", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(ContractError) as caught:
        train_round(too_few, request(1), weights)
    assert caught.value.code == ErrorCode.TOO_FEW_PATIENTS
    assert not too_few.checkpoints("s").exists()


def test_patients_are_counted_by_the_rows_of_the_round_not_by_the_corpus(make_site, weights):
    site = make_site(limits=SiteLimits(min_patients=3))
    one_row = RECIPE.model_copy(update={"steps": 1, "rows": 1, "row_length": 16})
    with pytest.raises(ContractError) as caught:
        train_round(site, request(1, recipe=one_row), weights)
    assert caught.value.code == ErrorCode.TOO_FEW_PATIENTS


def test_a_site_that_missed_a_round_goes_on_with_its_older_optimizer_state(make_site, weights):
    site, fresh = make_site(number=1), make_site(number=2)
    train_round(site, request(1), weights)
    assert not same(train_round(site, request(3), weights), train_round(fresh, request(3), weights))


def test_validation_notes_cover_as_many_patients_as_they_can(site):
    notes = read_split(site.notes, "validation")
    assert len({n.patient_key for n in _across_patients(notes)[:4]}) == 4
    assert sorted(n.note_key for n in _across_patients(notes)) == sorted(n.note_key for n in notes)


def test_held_out_notes_are_not_trained_on(make_site, weights):
    few = make_site(number=1)
    many = make_site(number=2, patients={"train": 12, "validation": 20, "test": 20})
    assert same(train_round(few, request(1), weights), train_round(many, request(1), weights))
