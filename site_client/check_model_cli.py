"""``fednotes site privacy check-model``: are a model's gradients by unit right? Compared with brute force, here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocols.errors import WorkError

if TYPE_CHECKING:
    from privacy.gradients.check import CheckRow


def check_model(
    model: Annotated[Path, typer.Argument(help="Folder of a language model.", metavar="MODEL")],
    site: Annotated[Path, typer.Option("--site", help="Site folder.", metavar="DIR")] = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare, and remember nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare a model's gradients by patient with brute force, on random tokens; one that passes may train here.

    Models of the Llama, GPT-2, Qwen, BERT and ModernBERT families are compared by the project's own tests already.

    Example: fednotes site privacy check-model model --site our-site
    """
    from modeling.release import load_language_model
    from privacy.gradients.architectures import architecture_of, refuse_unsupported
    from privacy.gradients.check import check_model as compare
    from privacy.gradients.choose import BACKENDS
    from site_client.checked_models import add_checked_model
    from site_client.folder import SiteFolder, secure_umask
    from site_client.progress import Steps

    secure_umask()
    folder = SiteFolder(site)
    folder.config()
    loaded = load_language_model(model)
    refuse_unsupported(loaded)
    name = architecture_of(loaded)
    with Steps(quiet=as_json).step("check", f"Comparing the gradients of {name}"):
        rows = compare(loaded, backends=BACKENDS)
    # One backend is enough to train with; one that is wrong could be chosen for its speed.
    passed = any(row.passed for row in rows if row.backend in BACKENDS) and not any(row.wrong for row in rows)
    if passed and not dry_run:
        add_checked_model(folder, name)
    _print(name, rows, passed, as_json)
    if not passed:
        raise WorkError(
            f"The gradients of {name} are not those of its patients one by one: it may not train here.",
            hint="take a model of the Llama, GPT-2, Qwen, BERT or ModernBERT family",
        )


def _print(name: str, rows: Sequence[CheckRow], passed: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"architecture": name, "passed": passed, "rows": [asdict(row) for row in rows]}))
        return
    print(f"{name}, relative errors against one record at a time:")
    for row in rows:
        told = row.reason or f"norms {row.norm_error:.1e}, clipped sum {row.sum_error:.1e}"
        print(f"  {row.backend:6} bound {row.max_grad_norm:<9.3g} {'wrong: ' if row.wrong else ''}{told}")
    if passed:
        print(f"{name} may train under differential privacy at this site.")
