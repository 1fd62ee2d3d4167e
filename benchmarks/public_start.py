"""``python -m benchmarks.public_start``: pretrain a small model on public text, for ``simulate --initial``."""

from __future__ import annotations

import argparse
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from modeling.packing import Document
from modeling.release import new_model, save_model
from modeling.tokenizer import default_tokenizer
from protocols.messages import InnerRecipe
from site_client.progress import Steps
from site_client.train import make_optimizer, make_rows, train_steps


def texts(archive: Path) -> Iterator[str]:
    """Texts of a tar archive of JSON files that each have a ``text``."""
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".json") else None
            if file is not None:
                yield json.loads(file.read())["text"]


def main() -> None:
    """Train and write a model folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.public_start", description=__doc__)
    parser.add_argument("archive", type=Path, help="e.g. E3C's data_collection_English_layer3.tar.gz")
    parser.add_argument("--size", default="nano")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    tokenizer = default_tokenizer()
    ids = tokenizer([text for text in texts(arguments.archive) if text], add_special_tokens=False)["input_ids"]
    documents = [Document(unit=str(n), tokens=np.array(one, np.int32)) for n, one in enumerate(ids)]
    recipe = InnerRecipe(steps=arguments.steps, rows=16, row_length=256, peak_lr=3e-3, warmup_steps=30)
    model = new_model(arguments.size, tokenizer, 0, recipe.row_length)
    with Steps().step("training", "Training on public text", recipe.steps) as advance:
        loss, tokens = train_steps(
            model,
            make_optimizer(model, recipe),
            make_rows(documents, recipe, tokenizer),
            recipe,
            first_step=0,
            steps=recipe.steps,
            total_steps=recipe.steps,
            on_step=lambda *_: advance(1),
        )
    save_model(arguments.out, model, tokenizer, f"Trained on {tokens} tokens of {arguments.archive.name}.\n")
    print(f"{tokens:,} tokens, mean loss {loss:.3f} nats/token: {arguments.out}")


if __name__ == "__main__":
    main()
