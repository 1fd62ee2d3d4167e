"""``fednotes model``: make and look at model folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from modeling.sizes import SIZES
from protocols.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Make model folders and look at them.")


@app.command("new")
def new(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    size: Annotated[str, typer.Option("--size", help=f"One of: {', '.join(SIZES)}.")] = "nano",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the initial weights.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print facts as JSON.")] = False,
) -> None:
    """Make a model with fresh weights and the built-in tokenizer.

    Example: fednotes model new my-model --size nano
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already.", hint="choose another folder")
    from modeling.release import new_model, save_model
    from modeling.tokenizer import default_tokenizer, tokenizer_digest

    tokenizer = default_tokenizer()
    model = new_model(size, tokenizer, seed)
    save_model(folder, model, tokenizer, f"A fresh {size} decoder, made by fednotes with seed {seed}.\n")
    facts = {
        "folder": str(folder),
        "size": size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "tokenizer_sha256": tokenizer_digest(tokenizer),
    }
    print(json.dumps(facts) if as_json else "\n".join(f"{k}: {v}" for k, v in facts.items()))
