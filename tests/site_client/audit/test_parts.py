"""Exposure, membership and extraction against examples that were worked out by hand."""

import math

import numpy as np
import pytest
import torch

from protocols.errors import UsageError
from site_client.audit.exposure import CHANCE_BITS, ceiling, exposures
from site_client.audit.extraction import find_planted, generate
from site_client.audit.membership import auc, choose_patients, roc, tell_apart
from site_client.audit.target import load_target
from site_client.store import read_split


def test_exposure_is_the_candidates_less_the_rank_in_bits():
    alternatives = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0]  # with the secret itself: 8 candidates, 3 bits
    assert ceiling(len(alternatives)) == 3
    assert exposures([5.0, 15.0, 35.0, 99.0], alternatives) == [3.0, 2.0, 1.0, 0.0]


def test_secret_that_costs_as_much_as_all_others_is_not_exposed():
    assert exposures([7.0], [7.0] * 255) == [0.0]


def test_secrets_nobody_knows_have_chance_exposure():
    rng = np.random.default_rng(0)
    found = exposures(rng.normal(size=4000).tolist(), rng.normal(size=20_000).tolist())
    assert np.mean(found) == pytest.approx(CHANCE_BITS, abs=0.1)
    assert np.median(found) == pytest.approx(1.0, abs=0.1)


def test_area_counts_pairs_and_half_of_ties():
    assert auc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1.0
    assert auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 0.0
    assert auc(np.array([1.0, 3.0]), np.array([2.0, 3.0])) == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_curve_counts_training_patients_below_the_strictest_threshold():
    held_out = np.arange(100.0)
    found = roc(np.array([-1.0, 0.5, 28.5, 1000.0]), held_out)
    assert (found[0], found[1], found[28], found[29], found[99], found[100]) == (0.25, 0.5, 0.5, 0.75, 0.75, 1.0)
    assert found == sorted(found)


def test_interval_holds_the_area_and_half_for_patients_that_do_not_differ():
    rng = np.random.default_rng(3)
    curve = tell_apart(rng.normal(size=80), rng.normal(size=60))
    assert curve.auc_low < 0.5 < curve.auc_high
    assert curve.auc_low < curve.auc < curve.auc_high
    apart = tell_apart(rng.normal(size=80) - 2, rng.normal(size=60))
    assert apart.auc_low > 0.8
    assert apart.tpr_at_1 <= apart.tpr_at_10


def test_patients_and_notes_are_capped_and_canaries_left_out(patients):
    everyone = choose_patients(patients, "train", patients=99, notes=99)
    assert {len(notes) for notes in everyone.notes.values()} == {2}
    assert len(everyone.texts) == len(read_split(patients.notes, "train"))
    few = choose_patients(patients, "train", patients=5, notes=1)
    assert list(few.notes) == sorted(everyone.notes)[:5]
    assert all(notes == everyone.notes[key][:1] for key, notes in few.notes.items())
    gone = frozenset(few.notes)
    assert gone.isdisjoint(choose_patients(patients, "train", patients=99, notes=1, without=gone).notes)


def test_planted_strings_are_found_with_the_text_before_them(patients):
    notes = read_split(patients.notes, "train")
    string = notes[3].text[20:40]
    assert find_planted(notes, [string, "stands nowhere", " "]) == [(notes[3].text[:20], string)]


def test_batch_of_unequal_prefixes_writes_what_each_writes_alone(model_folder):
    target = load_target(model_folder)
    prefixes = ["Blood", "The patient was seen in clinic for follow-up of", "He denies"]
    assert generate(target, prefixes, 8) == [generate(target, [p], 8)[0] for p in prefixes]


def test_greedy_writing_takes_the_likeliest_token(model_folder):
    target = load_target(model_folder)
    ids = target.tokenizer("Blood pressure")["input_ids"]
    with torch.inference_mode():
        logits = target.model(torch.tensor([[target.tokenizer.bos_token_id, *ids]])).logits[0, -1]
    assert generate(target, ["Blood pressure"], 1) == [
        target.tokenizer.decode([int(logits.argmax())], skip_special_tokens=True)
    ]


def test_prefix_longer_than_the_context_loses_its_beginning(model_folder):
    target = load_target(model_folder)
    assert len(generate(target, ["wound " * 2000], 4)) == 1


def test_encoder_is_refused_with_what_cannot_be_done(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["BertForMaskedLM"], "model_type": "bert"}')
    with pytest.raises(UsageError, match="BertForMaskedLM, no causal language model") as error:
        load_target(tmp_path)
    assert "extraction and membership cannot be measured" in str(error.value)


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no model"):
        load_target(tmp_path)


def test_tokenizer_without_a_beginning_gets_the_end_of_another_text(model_folder, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(model_folder, tmp_path / "model")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            settings = json.loads((folder / name).read_text())
            settings.pop("bos_token", None)
            settings.pop("pad_token", None)
            (folder / name).write_text(json.dumps(settings))
    target = load_target(folder)
    assert target.tokenizer.bos_token_id == target.tokenizer.eos_token_id
    assert math.isfinite(target.score(["Blood pressure"])[0].bits)
