from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from protocols.errors import UsageError, WorkError
from protocols.manifest import ParameterManifest
from protocols.messages import InnerRecipe
from protocols.plan import Plan
from server.state import Refusal, RoundRecord, ServerFolder, StudyState

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float32)}


def plan(**fields: object) -> Plan:
    values = {
        "study": "s",
        "rounds": 5,
        "corpus": "real",
        "manifest_digest": ParameterManifest.of(ARRAYS).digest,
        "recipe": InnerRecipe(steps=1, rows=1, row_length=16, peak_lr=0.1),
        "sites": 2,
        "quorum": 1,
        **fields,
    }
    return Plan(**values)  # type: ignore[arg-type]


def record(number: int) -> RoundRecord:
    return RoundRecord(
        round=number,
        accepted=[0, 3],
        refused=[Refusal(site=None, code="NO_REPLY"), Refusal(site=2, code="UPDATE_TOO_LARGE")],
        train_loss=2.5,
        train_tokens=640,
        validation={3: (900, 450)},
        bytes_up=10,
        bytes_down=20,
        seconds=1.5,
    )


def state(rounds: int) -> StudyState:
    return StudyState(
        weights={k: v + rounds for k, v in ARRAYS.items()},
        momentum={k: v * rounds for k, v in ARRAYS.items()},
        history=[record(i) for i in range(1, rounds + 1)],
    )


@pytest.fixture
def folder(tmp_path):
    made = ServerFolder.create(tmp_path / "server", plan())
    made.model.mkdir()
    save_file(ARRAYS, made.model / "model.safetensors")
    return made


def test_new_study_starts_from_the_model_with_no_history(folder):
    loaded = folder.load()
    assert np.array_equal(loaded.weights["a"], ARRAYS["a"])
    assert (loaded.momentum, loaded.history, folder.rounds_done()) == ({}, [], 0)
    assert folder.manifest() == ParameterManifest.of(ARRAYS)


def test_checkpoint_comes_back_equal(folder):
    folder.save(state(2))
    loaded = folder.load()
    assert loaded.history == state(2).history
    for part in ("weights", "momentum"):
        saved = getattr(state(2), part)
        assert all(np.array_equal(v, saved[k]) and v.dtype == np.float32 for k, v in getattr(loaded, part).items())
        assert getattr(loaded, part).keys() == saved.keys()


def test_checkpoint_without_momentum_comes_back(folder):
    folder.save(StudyState(weights=ARRAYS, history=[record(1)]))
    assert folder.load().momentum == {}


def test_last_two_checkpoints_are_kept(folder):
    for rounds in range(1, 5):
        folder.save(state(rounds))
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["round-0003", "round-0004"]
    assert folder.rounds_done() == 4


def test_full_disk_leaves_the_checkpoint_before(folder, monkeypatch):
    folder.save(state(1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkError, match="No space left"):
        folder.save(state(2))
    assert folder.load().history == state(1).history


@pytest.mark.parametrize("name", ["weights.safetensors", "momentum.safetensors", "history.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "garbage"])
def test_damaged_checkpoint_is_a_work_error_that_says_what_to_do(folder, name, damage):
    folder.save(state(1))
    folder.save(state(2))
    path = folder.checkpoints / "round-0002" / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"garbage" * 9)
    with pytest.raises(WorkError, match="round-0002 cannot be read") as caught:
        folder.load()
    assert "go on from the one before" in str(caught.value.hint)


def test_changed_plan_is_refused_after_a_checkpoint(folder):
    folder.save(state(1))
    (folder.path / "plan.json").write_text(plan(rounds=6).model_dump_json())
    with pytest.raises(UsageError, match="belongs to another plan"):
        folder.load()


def test_folder_of_another_plan_is_refused(folder):
    assert ServerFolder.create(folder.path, plan()).plan() == plan()
    with pytest.raises(UsageError, match="holds another plan"):
        ServerFolder.create(folder.path, plan(rounds=6))


@pytest.mark.parametrize("content", [None, "", "{}", '{"study": "s"}'])
def test_missing_or_wrong_plan_is_wrong_usage(tmp_path, content):
    if content is not None:
        (tmp_path / "plan.json").write_text(content)
    with pytest.raises(UsageError, match=r"plan\.json is missing or no valid plan"):
        ServerFolder(tmp_path).plan()
