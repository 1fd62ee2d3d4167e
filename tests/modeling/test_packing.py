from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling.packing import IGNORED, Document, RowStream, TokenBatch
from modeling.release import load_model
from protocols.errors import WorkError

EON, PAD = 1, 0


def documents(lengths: dict[str, list[int]]) -> list[Document]:
    """Documents whose tokens are all different: unit number * 1,000 and upwards."""
    made = []
    for number, (unit, sizes) in enumerate(lengths.items(), start=1):
        start = number * 1_000
        for size in sizes:
            made.append(Document(unit=unit, tokens=np.arange(start, start + size, dtype=np.int32)))
            start += size
    return made


def stream(docs: list[Document], **settings: object) -> RowStream:
    kwargs = {"row_length": 16, "packing": "stream", "end_of_note": EON, "padding": PAD, "seed": 0, **settings}
    return RowStream(docs, **kwargs)  # type: ignore[arg-type]


def equal(a: TokenBatch, b: TokenBatch) -> bool:
    return all(torch.equal(getattr(a, k), getattr(b, k)) for k in ("input_ids", "targets", "position_ids"))


CORPUS = documents({"p1": [10, 25], "p2": [7], "p3": [40, 3, 1], "p4": [18]})


def test_stream_rows_are_full_to_the_last_token():
    rows = stream(CORPUS)
    batch = rows.batch(0, rows.rows_per_epoch)
    assert batch.input_ids.shape == (rows.rows_per_epoch, 16)
    assert batch.num_tokens == rows.rows_per_epoch * 16
    assert (batch.targets != IGNORED).all()
    assert (batch.input_ids != PAD).all()


def test_stream_serves_every_token_once_per_epoch_but_the_cut_rest():
    rows = stream(CORPUS)
    corpus = Counter(int(t) for d in CORPUS for t in d.tokens) + Counter({EON: len(CORPUS)})
    seen_ever: set[int] = set()
    for epoch in range(6):
        batch = rows.batch(epoch, rows.rows_per_epoch)
        seen = Counter(batch.targets.flatten().tolist())
        assert seen <= corpus
        assert (corpus - seen).total() == rows.num_tokens % 16 < 16
        seen_ever |= set(seen)
    assert seen_ever == set(corpus)  # the rest that is cut is another one in another epoch


@given(
    lengths=st.lists(st.integers(0, 50), min_size=1, max_size=8), row_length=st.integers(2, 20), seed=st.integers(0, 9)
)
def test_stream_of_any_corpus_loses_less_than_a_row(lengths, row_length, seed):
    docs = documents({f"p{i}": [n] for i, n in enumerate(lengths)})
    total = sum(lengths) + len(lengths)
    if total < row_length:
        with pytest.raises(WorkError, match="fewer than one row"):
            stream(docs, row_length=row_length, seed=seed)
        return
    rows = stream(docs, row_length=row_length, seed=seed)
    targets = rows.batch(0, rows.rows_per_epoch).targets.flatten().tolist()
    words = [t for t in targets if t != EON]
    assert len(words) == len(set(words))
    assert total - len(targets) < row_length


def test_targets_are_the_inputs_moved_by_one_within_every_note():
    rows = stream(CORPUS)
    batch = rows.batch(0, rows.rows_per_epoch)
    for inputs, targets, positions in zip(batch.input_ids, batch.targets, batch.position_ids, strict=True):
        for i in range(15):
            if positions[i + 1] != 0:
                assert inputs[i + 1] == targets[i]


def test_positions_restart_at_every_note_and_nowhere_else_but_at_the_row():
    rows = stream(CORPUS)
    batch = rows.batch(0, rows.rows_per_epoch)
    for inputs, positions in zip(batch.input_ids.tolist(), batch.position_ids.tolist(), strict=True):
        expected, position = [], -1
        for index, token in enumerate(inputs):
            position = 0 if index == 0 or token == EON else position + 1
            expected.append(position)
        assert positions == expected


def test_patient_packing_never_has_two_patients_in_a_row():
    rows = stream(CORPUS, packing="patient")
    for epoch in range(3):
        for row in rows.batch(epoch, rows.rows_per_epoch).input_ids.tolist():
            owners = {token // 1_000 for token in row if token not in (EON, PAD)}
            assert len(owners) <= 1


def test_stream_packing_does_mix_patients():
    """Keeps the test above honest: the same corpus shows two patients in a row when nothing keeps them apart."""
    rows = stream(CORPUS)
    owners = [{t // 1_000 for t in row if t != EON} for row in rows.batch(0, rows.rows_per_epoch).input_ids.tolist()]
    assert max(map(len, owners)) > 1


def test_patient_packing_serves_every_token_once_and_ignores_the_padding():
    rows = stream(CORPUS, packing="patient")
    batch = rows.batch(0, rows.rows_per_epoch)
    corpus = Counter(int(t) for d in CORPUS for t in d.tokens) + Counter({EON: len(CORPUS)})

    assert Counter(batch.targets[batch.targets != IGNORED].tolist()) == corpus
    assert batch.num_tokens == rows.num_tokens
    padded = batch.input_ids == PAD
    assert padded.any()
    assert (batch.targets[padded] == IGNORED).all()
    assert (batch.targets[~padded] != IGNORED).all()


def test_padding_starts_a_run_of_positions_of_its_own():
    rows = stream(documents({"p1": [5]}), packing="patient")
    batch = rows.batch(0, 1)
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]


@pytest.mark.parametrize("packing", ["stream", "patient"])
def test_batch_depends_on_seed_and_step_alone(packing):
    one, other = stream(CORPUS, packing=packing), stream(list(reversed(CORPUS)), packing=packing)
    forward = [one.batch(step, 3) for step in range(8)]
    backward = [other.batch(step, 3) for step in reversed(range(8))]
    assert all(equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


def test_another_seed_and_another_epoch_give_another_order():
    rows = stream(CORPUS)
    first, second = rows.batch(0, rows.rows_per_epoch), rows.batch(1, rows.rows_per_epoch)
    assert not equal(first, second)
    assert not equal(first, stream(CORPUS, seed=1).batch(0, rows.rows_per_epoch))


def test_corpus_below_one_row_is_a_work_error():
    with pytest.raises(WorkError, match="8 tokens, fewer than one row of 16"):
        stream(documents({"p1": [7]}))
    with pytest.raises(WorkError, match="0 tokens"):
        stream([], packing="patient")


def test_second_note_of_a_row_gets_the_logits_that_it_gets_alone(model_folder):
    model, tokenizer = load_model(model_folder)
    model.eval()
    rng = np.random.default_rng(0)
    end = int(tokenizer.eos_token_id)
    first, second = (rng.integers(2, 300, size).astype(np.int32) for size in (9, 14))
    rows = stream(
        [Document(unit="a", tokens=first), Document(unit="b", tokens=second)], row_length=25, end_of_note=end, seed=0
    )
    batch = rows.batch(0, 1)
    with torch.no_grad():
        packed = model(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits[0]
        for note in (first, second):
            framed = torch.tensor([[end, *note.tolist()]])
            alone = model(input_ids=framed, use_cache=False).logits[0]
            start = next(
                i for i in range(25) if batch.input_ids[0, i : i + framed.shape[1]].tolist() == framed[0].tolist()
            )
            assert torch.allclose(packed[start : start + framed.shape[1]], alone, atol=1e-5)
        mixed = model(input_ids=batch.input_ids, use_cache=False).logits[0]
    assert not torch.allclose(packed, mixed, atol=1e-3)  # without positions the notes do see one another


@pytest.mark.parametrize("packing", ["stream", "patient"])
def test_units_are_counted_by_the_rows_that_are_served(packing):
    documents = [Document(unit=f"u{i}", tokens=np.arange(10 * i, 10 * i + 9, dtype=np.int32)) for i in range(1, 13)]
    rows = RowStream(documents, row_length=10, packing=packing, end_of_note=0, padding=1, seed=3)
    assert rows.num_units(0, 1, 1) == 1
    assert rows.num_units(0, 3, 4) == 12
    seen = {int(t) // 10 for t in rows.batch(0, 5).input_ids.flatten() if t > 1}
    assert rows.num_units(0, 1, 5) == len(seen) == 5
