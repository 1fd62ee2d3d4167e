"""A site with canaries, a model that was trained on it until it knew its notes by heart, and one that was not."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from site_client.audit.canaries import CanaryFile
    from site_client.folder import SiteFolder

MIN_PATIENTS = 5
WORDS = ("apex", "basal", "cough", "drain", "edema", "fever", "graft", "hilar", "ileus", "joint", "kidney", "liver")
PLANTED = [f"Device tag zq{i}x{7 * i % 10}k{3 * i % 10}." for i in range(8)]


def note(rng: random.Random) -> str:
    """A note that nobody can guess: random words and numbers."""
    return " ".join(f"{rng.choice(WORDS)} {rng.randrange(100)}" for _ in range(9)) + "."


def make_patients(path: Path, *, train: int, test: int, planted: bool = False) -> SiteFolder:
    """Make a site of patients with two random notes each; strings of one form are planted on both sides alike."""
    from corpus_support import make_site_of

    rng = random.Random(path.name)
    notes = {
        split: {f"{split}-{i}": [note(rng), note(rng)] for i in range(number)}
        for split, number in (("train", train), ("test", test))
    }
    if planted:
        for i, string in enumerate(PLANTED):
            notes["train"][f"train-{i}"][0] += f" {string}"
            notes["test"][f"test-{i}"][0] += f" {string[::-1]}"
    return make_site_of(path, notes, min_patients=MIN_PATIENTS)


@dataclass(frozen=True)
class Planted:
    """A site with canaries, a model with fresh weights, and the strings planted in notes of training patients."""

    site: SiteFolder
    canaries: CanaryFile
    initial: Path
    strings: tuple[str, ...] = tuple(PLANTED)


def plant_site(folder: Path) -> Planted:
    """Make a planted site and an untrained model with a vocabulary of its own."""
    import torch

    from modeling.release import new_model, save_model
    from modeling.tokenizer import train_tokenizer
    from site_client.audit.canaries import draw_secret, plant, read_canaries, sentence

    torch.set_num_threads(1)
    site = make_patients(folder / "site", train=20, test=15, planted=True)
    plant(site, 48, repeats=2)
    texts = [note(random.Random(i)) for i in range(50)] + [sentence(draw_secret()) for _ in range(50)]
    tokenizer = train_tokenizer(texts, vocab_size=450)
    save_model(folder / "initial", new_model("pico", tokenizer, seed=1), tokenizer, "# Initial\n")
    canaries = read_canaries(site)
    assert canaries is not None
    return Planted(site, canaries, folder / "initial")


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Shared, so never written to."""
    return plant_site(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="session")
def overfitted(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The initial model, trained through the site's own corpus, packing and loop until it knows the notes by heart."""
    from modeling.release import load_model, save_model
    from protocols.messages import InnerRecipe
    from site_client.corpus import training_documents
    from site_client.train import make_optimizer, make_rows, train_steps

    model, tokenizer = load_model(planted.initial)
    recipe = InnerRecipe(steps=150, rows=16, row_length=128, peak_lr=8e-3, warmup_steps=10, weight_decay=0.0)
    rows = make_rows(training_documents(planted.site, "real", tokenizer), recipe, tokenizer)
    optimizer = make_optimizer(model, recipe)
    train_steps(model, optimizer, rows, recipe, first_step=0, steps=recipe.steps, total_steps=recipe.steps)
    folder = tmp_path_factory.mktemp("trained") / "overfitted"
    save_model(folder, model, tokenizer, "# Overfitted\n")
    return folder


@pytest.fixture
def patients(tmp_path: Path) -> SiteFolder:
    """A site without canaries."""
    return make_patients(tmp_path / "site", train=12, test=8)
