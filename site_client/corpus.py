"""The training corpus of a site, as token documents. The one place at a site where text becomes tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from transformers import PreTrainedTokenizerFast

from modeling.packing import Document
from privacy.note_types import Chunk, CleanNote, SyntheticChunk
from protocols.errors import WorkError
from protocols.messages import Corpus
from site_client.folder import SiteFolder
from site_client.rephrase import read_synthetic, training_chunks
from site_client.store import read_split


def training_documents(folder: SiteFolder, corpus: Corpus, tokenizer: PreTrainedTokenizerFast) -> list[Document]:
    """Tokenize a site's training texts.

    Args:
        folder: the site.
        corpus: "real" notes, "synthetic" rephrasings, both, or "real-repeated": real notes and, for each rephrasing,
            the real chunk that it was made from. The last is the control of "real+synthetic": as many texts, cut in the
            same places, but none rephrased.
        tokenizer: the study's.

    Raises:
        WorkError: rephrasings are asked for and there are none.
    """
    texts: list[CleanNote | SyntheticChunk | Chunk] = []
    if corpus != "synthetic":
        texts += read_split(folder.notes, "train")
    if corpus != "real":
        synthetic = read_synthetic(folder)
        if not synthetic:
            raise WorkError(f"{folder.path} has no rephrasings.", hint="fednotes site rephrase")
        texts += _sources(folder, synthetic) if corpus == "real-repeated" else synthetic
    return tokenize(texts, tokenizer)


def tokenize(texts: Sequence[CleanNote | SyntheticChunk | Chunk], tokenizer: PreTrainedTokenizerFast) -> list[Document]:
    """Turn clean texts into documents that keep their patient."""
    if not texts:
        return []
    ids = tokenizer([t.text for t in texts], add_special_tokens=False)["input_ids"]
    return [Document(unit=t.patient_key, tokens=np.array(i, np.int32)) for t, i in zip(texts, ids, strict=True)]


def num_patients(documents: Iterable[Document]) -> int:
    """Number of privacy units in a corpus."""
    return len({d.unit for d in documents})


def _sources(folder: SiteFolder, synthetic: Sequence[SyntheticChunk]) -> list[Chunk]:
    chunks = {c.chunk_key: c for c in training_chunks(folder)}
    return [chunks[s.chunk_key] for s in synthetic]
