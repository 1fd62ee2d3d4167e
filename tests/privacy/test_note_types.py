from __future__ import annotations

import os
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from privacy.note_types import Chunk, CleanNote, RawNote, SyntheticChunk

SECRET = "Jane Roe"
KEY = "0123456789abcdef" * 2
RAW = RawNote(text=SECRET, note_id=SECRET, patient_id=SECRET, group=SECRET, source=SECRET, position=4)
CLEAN = CleanNote(note_key=KEY, patient_key=SECRET, text=SECRET, note_type=SECRET)
CHUNK = Chunk(chunk_key=f"{KEY}-0", note_key=KEY, patient_key=SECRET, index=0, header=SECRET, text=SECRET)
SYNTHETIC = SyntheticChunk(job=KEY, arm="rules", chunk_key=KEY, note_key=KEY, patient_key=SECRET, text=SECRET)


@pytest.mark.parametrize("value", [RAW, CLEAN, CHUNK, SYNTHETIC], ids=lambda v: type(v).__name__)
def test_text_types_show_no_text_and_no_patient(value):
    for shown in (repr(value), str(value), f"{value}", repr([value])):
        assert SECRET not in shown
        assert "8 characters" in shown
    with pytest.raises(FrozenInstanceError):
        value.text = "other"


def test_token_types_and_local_updates_show_no_tokens():
    import torch

    from modeling.bits_per_byte import Score
    from modeling.packing import Document, TokenBatch
    from site_client.pretrain import LocalUpdate

    tokens = torch.full((2, 3), 424_242)
    shown = [
        repr(Document(unit=SECRET, tokens=np.full(5, 424_242, np.int32))),
        repr(TokenBatch(input_ids=tokens, targets=tokens, position_ids=tokens)),
        repr(
            LocalUpdate(
                round=3,
                delta={"w": np.full(2, 424_242, np.float32)},
                train_tokens=424_242,
                train_loss=424_242.0,
                corpus_tokens=424_242,
                full_rows=True,
                train_patients=424_242,
                validation=[Score(bits=424_242.0, num_bytes=1)],
                validation_patients=424_242,
            )
        ),
    ]
    assert shown == ["Document(5 tokens)", "TokenBatch(2, 3)", "LocalUpdate(round 3)"]


_SNIPPET = """
from privacy.note_types import CleanNote, RawNote
from site_client.chunks import chunk_note
from site_client.corpus import tokenize
from transformers import PreTrainedTokenizerFast

def clean(note: CleanNote, tokenizer: PreTrainedTokenizerFast) -> None:
    chunk_note(note)
    tokenize([note], tokenizer)

def raw(note: RawNote, tokenizer: PreTrainedTokenizerFast) -> None:
    chunk_note(note)
    tokenize([note], tokenizer)
"""


def test_raw_note_where_a_clean_one_belongs_is_a_type_error(tmp_path, monkeypatch):
    from mypy import api

    root = Path(__file__).resolve().parents[2]
    (tmp_path / "snippet.py").write_text(_SNIPPET)
    monkeypatch.chdir(root)
    # Imports of third parties are not followed: only this project's types matter here, and it is twenty times faster.
    (tmp_path / "mypy.ini").write_text("[mypy]\nfollow_imports = silent\nignore_missing_imports = True\n")
    options = ["--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", os.devnull, "--no-site-packages"]
    report, problems, _ = api.run([*options, str(tmp_path / "snippet.py")])

    errors = [line.split("snippet.py:")[1] for line in report.splitlines() if "error:" in line]
    assert not problems
    assert len(errors) == 2, report
    assert errors[0].startswith('12: error: Argument 1 to "chunk_note" has incompatible type "RawNote"')
    assert errors[1].startswith('13: error: List item 0 has incompatible type "RawNote"')
