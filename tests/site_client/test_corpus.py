"""The four training corpora of a site, and the lineage that every text keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rephrasing_support import make_arm, rephrase

from protocols.errors import WorkError
from site_client.corpus import training_documents
from site_client.rephrasing.reading import read_synthetic
from site_client.rephrasing.selection import training_chunks
from site_client.store import read_split, write_notes

SPLITS = ("train", "validation", "test")


def num_tokens(documents) -> int:
    return sum(len(d.tokens) for d in documents)


@pytest.fixture
def rephrased(site):
    """A site whose notes hold shorthand, which is what the rules engine rewrites."""
    splits = {n.patient_key: split for split in SPLITS for n in read_split(site.notes, split)}
    notes = [n for split in SPLITS for n in read_split(site.notes, split)]
    terse = [replace(n, text=f"Pt c/o CP x {i} days, hx of HTN. {n.text}") for i, n in enumerate(notes, start=2)]
    write_notes(site.notes, terse, splits)
    [report] = rephrase(site)
    counts = report.counts.gates
    assert counts.accepted > 0
    assert counts.judged == counts.accepted + sum(counts.rejected.values())
    return site


def test_real_and_rephrased_text_add_up(rephrased, tokenizer):
    real, synthetic, both = (
        training_documents(rephrased, corpus, tokenizer) for corpus in ("real", "synthetic", "real+synthetic")
    )
    assert len(both) == len(real) + len(synthetic)
    assert num_tokens(both) == num_tokens(real) + num_tokens(synthetic)


def test_the_control_has_as_many_tokens_and_no_rephrased_word(rephrased, tokenizer):
    control = training_documents(rephrased, "real-repeated", tokenizer)
    both = training_documents(rephrased, "real+synthetic", tokenizer)
    assert num_tokens(control) == num_tokens(both)
    notes = " ".join(n.text for n in read_split(rephrased.notes, "train"))
    assert all(tokenizer.decode(d.tokens) in notes for d in control)


def test_every_text_belongs_to_the_patient_of_its_note(rephrased, tokenizer):
    training = {n.patient_key for n in read_split(rephrased.notes, "train")}
    owners = {c.chunk_key: c.patient_key for c in training_chunks(rephrased.notes)}
    for chunk in read_synthetic(rephrased):
        assert chunk.patient_key == owners[chunk.chunk_key]
    for corpus in ("real", "synthetic", "real+synthetic", "real-repeated"):
        assert {d.unit for d in training_documents(rephrased, corpus, tokenizer)} <= training


def test_held_out_notes_are_never_rephrased(rephrased):
    held_out = {n.note_key for split in ("validation", "test") for n in read_split(rephrased.notes, split)}
    assert held_out
    assert not held_out & {s.note_key for s in read_synthetic(rephrased)}


def test_rephrasing_twice_gives_the_same_corpus(rephrased):
    before = [(s.job, s.text) for s in read_synthetic(rephrased)]
    rephrase(rephrased)
    assert [(s.job, s.text) for s in read_synthetic(rephrased)] == before
    rephrase(rephrased, arms=[make_arm(seed=1)])
    assert not {j for j, _ in before} & {s.job for s in read_synthetic(rephrased)}


def test_synthetic_text_alone_needs_rephrasings(site, tokenizer):
    with pytest.raises(WorkError, match="no rephrasing"):
        training_documents(site, "synthetic", tokenizer)
    assert training_documents(site, "real+synthetic", tokenizer)
