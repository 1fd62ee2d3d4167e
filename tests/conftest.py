"""Fixtures that several packages share: a tiny tokenizer, a tiny model folder, and a site folder with notes in it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from privacy.split import Split
    from protocols.messages import SiteLimits
    from site_client.folder import SiteFolder

SENTENCES = (
    "The patient was seen in clinic for follow-up of hypertension.",
    "Blood pressure was 142/88 on two readings.",
    "He denies chest pain and shortness of breath.",
    "Left knee pain has improved with physical therapy.",
    "Continue lisinopril 10 mg daily.",
    "She reports no fever, chills or night sweats.",
    "The wound is clean and dry without drainage.",
    "Return in three months or sooner as needed.",
)
KEY = b"k" * 32


@pytest.fixture(autouse=True)
def _usual_umask():
    """The site's code tightens the umask of its process, in fixtures too; every test starts with the usual one."""
    os.umask(0o022)
    yield
    os.umask(0o022)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level vocabulary of 300 entries, learnt from the sentences above."""
    import torch

    torch.set_num_threads(1)  # threads of tiny products wait for one another longer than they work
    from modeling.tokenizer import train_tokenizer

    return train_tokenizer(SENTENCES, vocab_size=300)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A released model of the smallest size; shared, so never written to."""
    from modeling.release import new_model, save_model

    folder = tmp_path_factory.mktemp("release") / "model"
    save_model(folder, new_model("pico", tokenizer, seed=0), tokenizer, "# A tiny model\n")
    return folder


@dataclass(frozen=True)
class SiteMaker:
    """Makes site folders that hold notes."""

    root: Path
    model: Path

    def __call__(
        self,
        *,
        number: int = 7,
        patients: dict[Split, int] | None = None,
        limits: SiteLimits | None = None,
        seed: int = 0,
    ) -> SiteFolder:
        """Make a site with two notes per patient, patients by split."""
        from privacy.deidentify import clean
        from privacy.note_types import RawNote
        from protocols.messages import SiteLimits
        from site_client.folder import SiteConfig, SiteFolder
        from site_client.store import write_notes

        config = SiteConfig(
            name=f"Hospital {number}",
            number=number,
            model=str(self.model),
            limits=limits or SiteLimits(min_patients=3),
        )
        folder = SiteFolder.create(self.root / f"{number:03d}-hospital", config, pseudonym_key=KEY)
        rng, notes, splits = random.Random(seed), [], {}
        for split, count in (patients or {"train": 12, "validation": 4, "test": 3}).items():
            for i in range(count):
                for visit in range(2):
                    raw = RawNote(
                        text=" ".join(rng.sample(SENTENCES, 5)),
                        note_id=f"{split}-{i}-{visit}",
                        patient_id=f"{split}-{i}",
                        note_type="Progress note",
                        source="export.csv",
                        position=len(notes) + 1,
                    )
                    notes.append(clean(raw, folder.pseudonym_key()))
                    splits[notes[-1].patient_key] = split
        write_notes(folder.notes, notes, splits)
        return folder


@pytest.fixture
def make_site(tmp_path: Path, model_folder: Path) -> Callable[..., SiteFolder]:
    """Make filled site folders under the test's own folder."""
    return SiteMaker(tmp_path / "sites", model_folder)


@pytest.fixture
def site(make_site: Callable[..., SiteFolder]) -> SiteFolder:
    """One filled site folder."""
    return make_site()
