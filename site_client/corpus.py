"""The training corpus of a site, as token documents. The one place at a site where text becomes tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from transformers import PreTrainedTokenizerFast

from modeling.packing import Document
from privacy.note_types import Chunk, CleanNote, SyntheticChunk
from protocols.errors import WorkError
from protocols.messages import Corpus, PrivacyUnit
from site_client.folder import SiteFolder
from site_client.rephrasing.reading import read_synthetic
from site_client.rephrasing.selection import training_chunks
from site_client.store import read_split


def training_documents(
    folder: SiteFolder, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, unit: PrivacyUnit = "patient"
) -> list[Document]:
    """Tokenize a site's training texts.

    Args:
        folder: the site.
        corpus: "real" notes, "synthetic" rephrasings, both, or "real-repeated": real notes and, for each rephrasing,
            the real chunk that it was made from, repeated to as many tokens. The last is the control of
            "real+synthetic": as much text, cut in the same places, but none rephrased.
        tokenizer: the study's.
        unit: what a document is said to belong to. A note's rephrasings belong to the note; a record is cut later.

    Raises:
        WorkError: rephrasings alone are asked for and there are none.
    """
    real = tokenize(read_split(folder.notes, "train"), tokenizer, unit) if corpus != "synthetic" else []
    if corpus == "real":
        return real
    synthetic = list(read_synthetic(folder))
    rephrased = tokenize(synthetic, tokenizer, unit)
    if corpus == "real-repeated":
        sources = tokenize(_sources(folder, synthetic), tokenizer, unit)
        return real + _repeat_to(sources, sum(len(d.tokens) for d in rephrased))
    if not real and not rephrased:
        raise WorkError(
            f"{folder.path} has no rephrasing that passed the gates.",
            hint="run fednotes site rephrase, or train on real notes",
        )
    return real + rephrased


def tokenize(
    texts: Sequence[CleanNote | SyntheticChunk | Chunk],
    tokenizer: PreTrainedTokenizerFast,
    unit: PrivacyUnit = "patient",
) -> list[Document]:
    """Turn clean texts into documents that keep their patient, or their note where that is the unit."""
    if not texts:
        return []
    ids = tokenizer([t.text for t in texts], add_special_tokens=False)["input_ids"]
    keys = [t.note_key if unit == "note" else t.patient_key for t in texts]
    return [Document(unit=k, tokens=np.array(i, np.int32)) for k, i in zip(keys, ids, strict=True)]


def _sources(folder: SiteFolder, synthetic: Sequence[SyntheticChunk]) -> list[Chunk]:
    chunks = {c.chunk_key: c for c in training_chunks(folder.notes)}
    return [chunks[s.chunk_key] for s in synthetic]


def _repeat_to(documents: Sequence[Document], num_tokens: int) -> list[Document]:
    """Go through documents again and again until they make up a number of tokens; the last one is cut."""
    repeated: list[Document] = []
    missing = num_tokens
    for document in cycle(documents):
        if missing <= 0:
            break
        repeated.append(Document(unit=document.unit, tokens=document.tokens[:missing]))
        missing -= len(document.tokens)
    return repeated
