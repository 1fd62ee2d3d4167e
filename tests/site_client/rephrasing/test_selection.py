"""Which chunks are taken: rounds over patients, budgets that only add."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.note_types import Chunk
from site_client.rephrasing.plan import Plan, first_round, next_round
from site_client.rephrasing.selection import ChunkOrder, training_chunks
from site_client.store import read_split


def chunks_of(lengths: list[int]) -> list[Chunk]:
    """So many chunks for each patient, of 7 estimated tokens each (five words)."""
    return [
        Chunk(
            chunk_key=f"n{patient}-{index}",
            note_key=f"n{patient}",
            patient_key=f"p{patient}",
            index=index,
            header="",
            text="a bb cc dd ee",
        )
        for patient, length in enumerate(lengths)
        for index in range(length)
    ]


def taken(order: ChunkOrder, n: int, chunks: list[Chunk]) -> Counter[str]:
    return Counter(c.patient_key for c in order.first(n, chunks))


def test_a_long_history_does_not_fill_the_budget() -> None:
    chunks = chunks_of([1_000, 3, 3, 1])
    order = ChunkOrder(chunks, seed=0)
    assert taken(order, 4, chunks) == {"p0": 1, "p1": 1, "p2": 1, "p3": 1}
    assert taken(order, 10, chunks) == {"p0": 3, "p1": 3, "p2": 3, "p3": 1}
    assert taken(order, len(order), chunks)["p0"] == 1_000


def test_a_bound_for_each_patient_holds() -> None:
    chunks = chunks_of([50, 2, 1])
    order = ChunkOrder(chunks, seed=0, per_patient=5)
    assert len(order) == 8 and taken(order, 100, chunks) == {"p0": 5, "p1": 2, "p2": 1}
    assert order.all_tokens == 53 * 8


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8), seed=st.integers(0, 3), n=st.integers(0, 80))
def test_more_chunks_only_add_and_nobody_is_two_rounds_ahead(lengths: list[int], seed: int, n: int) -> None:
    chunks = chunks_of(lengths)
    order = ChunkOrder(chunks, seed)
    n = min(n, len(chunks))
    fewer = {c.chunk_key for c in order.first(n, chunks)}
    assert len(fewer) == n
    assert fewer <= {c.chunk_key for c in order.first(n + 1, chunks)}
    counts = taken(order, n, chunks)
    for patient, length in enumerate(lengths):
        others = max(counts.values(), default=0)
        assert counts[f"p{patient}"] >= min(length, others - 1)


def test_the_seed_chooses_other_chunks() -> None:
    chunks = chunks_of([20, 20])
    drawn = {seed: frozenset(c.chunk_key for c in ChunkOrder(chunks, seed).first(6, chunks)) for seed in range(5)}
    assert len(set(drawn.values())) > 1
    assert drawn[0] == frozenset(c.chunk_key for c in ChunkOrder(chunks, 0).first(6, chunks))


def test_no_chunks_are_no_trouble() -> None:
    order = ChunkOrder([], 0)
    assert len(order) == 0 and order.count_for(100) == 0 and order.tokens(0) == 0 and list(order.first(0, [])) == []


def test_only_training_notes_are_chunked(site) -> None:
    training = {n.note_key for n in read_split(site.notes, "train")}
    assert {c.note_key for c in training_chunks(site.notes)} == training


@pytest.mark.parametrize(
    ("plan", "budget"),
    [
        (Plan(), None),
        (Plan(token_budget=500), 500),
        (Plan(synthetic_share=0.5), 500),  # 1,000 real tokens, 2 arms
        (Plan(synthetic_share=0.2), 125),
        (Plan(token_budget=100, synthetic_share=0.5), 100),
    ],
)
def test_budget_of_an_arm(plan: Plan, budget: int | None) -> None:
    assert plan.budget(real_tokens=1_000, arms=2) == budget


def test_rounds_end_at_the_budget_or_at_the_last_chunk() -> None:
    order = ChunkOrder(chunks_of([10] * 10), 0)  # 100 chunks of 8 tokens
    assert first_round(order, None) == 100
    assert first_round(order, 160) == 20
    assert next_round(order, 160, done=20, accepted_tokens=160) == 20
    # Half of it was accepted, so as much again is needed.
    assert next_round(order, 160, done=20, accepted_tokens=80) == 40
    assert next_round(order, 160, done=20, accepted_tokens=159) == 21
    assert next_round(order, 10_000, done=100, accepted_tokens=80) == 100
    # Where nothing is accepted, more of the same is no use.
    assert next_round(order, 160, done=20, accepted_tokens=0) == 20
