"""``fednotes server plan``: a plan from options, so that nobody has to write JSON by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer
from pydantic import ValidationError

from protocols.errors import UsageError
from protocols.messages import Corpus, InnerRecipe, PrivacyRecipe
from protocols.plan import OuterRecipe

if TYPE_CHECKING:
    from protocols.plan import Plan


def plan(
    study: Annotated[str, typer.Argument(help="Name: lower-case letters, digits, hyphens.")],
    model: Annotated[Path, typer.Option("--model", help="Folder with the initial model.")],
    sites: Annotated[int, typer.Option("--sites", min=1, help="How many sites are expected.")],
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Exchanges in all.")] = 20,
    quorum: Annotated[int | None, typer.Option("--quorum", min=1, help="Fewest sites in a round; half + 1.")] = None,
    corpus: Annotated[str, typer.Option("--corpus", help="real, synthetic or real+synthetic.")] = "real+synthetic",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimizer steps a round.")] = 100,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Packed rows a step.")] = 16,
    row_length: Annotated[int, typer.Option("--row-length", min=16, help="Tokens a row.")] = 512,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 1e-3,
    outer: Annotated[str, typer.Option("--outer", help="nesterov or fedavg.")] = "nesterov",
    deadline: Annotated[float, typer.Option("--deadline", help="Longest round [s].")] = 3_600.0,
    join: Annotated[float, typer.Option("--join", help="How long to wait for sites before the first round [s].")] = 600,
    invited: Annotated[list[int] | None, typer.Option("--invite", help="Number of a site; again for more.")] = None,
    dp_epsilon: Annotated[float | None, typer.Option("--dp-epsilon", help="Patient-level target epsilon.")] = None,
    dp_sampling_rate: Annotated[float, typer.Option("--dp-sampling-rate", help="Chance of a patient a step.")] = 0.1,
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("plan.json"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a plan for a study; sites read and approve it, and a run may only ask for less.

    Example: fednotes server plan autumn --model start-model --sites 3 --rounds 20 --out plan.json
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from protocols.durable import write_text
    from protocols.manifest import ParameterManifest
    from protocols.plan import Plan

    weights = model / "model.safetensors"
    try:
        manifest = ParameterManifest.of(load_file(weights))
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{weights} cannot be read.", hint="fednotes model new makes a model folder") from error
    private = dp_epsilon is not None
    try:
        made = Plan(
            study=study,
            rounds=rounds,
            corpus=_corpus(corpus),
            manifest_digest=manifest.digest,
            recipe=InnerRecipe(
                steps=steps,
                rows=rows,
                row_length=row_length,
                peak_lr=lr,
                packing="patient" if private else "stream",
            ),
            outer=OuterRecipe(name=_outer(outer), weights="equal" if private else "tokens"),
            sites=sites,
            quorum=sites // 2 + 1 if quorum is None else quorum,
            deadline_s=deadline,
            join_s=join,
            privacy=None
            if dp_epsilon is None
            else PrivacyRecipe(target_epsilon=dp_epsilon, sampling_rate=dp_sampling_rate),
            invited=tuple(invited or ()),
        )
    except ValidationError as error:
        raise UsageError(f"No such plan: {_wrong(error)}.") from None
    write_text(out, made.model_dump_json(indent=2) + "\n")
    facts = {"study": study, "plan": str(out), "digest": made.digest, "update_bytes": manifest.num_bytes}
    print(json.dumps(facts) if as_json else "\n".join(f"{k.replace('_', ' ')}: {v}" for k, v in facts.items()))


def read_plan(path: Path) -> Plan:
    """Read a plan from a file.

    Raises:
        UsageError: it cannot be read or is no plan; names the settings.
    """
    from protocols.plan import Plan

    try:
        return Plan.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", hint="fednotes server plan writes one") from error
    except ValidationError as error:
        raise UsageError(f"{path} is no valid plan: {_wrong(error)}.", hint="fednotes server plan writes one") from None


def _corpus(name: str) -> Corpus:
    for known in get_args(Corpus):
        if name == known:
            return known  # type: ignore[no-any-return]  # one of the literals
    raise UsageError(f"There is no corpus {name!r}.", hint=f"choose one of {', '.join(get_args(Corpus))}")


def _outer(name: str) -> Literal["fedavg", "nesterov"]:
    if name == "nesterov":
        return "nesterov"
    if name == "fedavg":
        return "fedavg"
    raise UsageError(f"There is no outer optimizer {name!r}.", hint="choose nesterov or fedavg")


def _wrong(error: ValidationError) -> str:
    told = error.errors(include_input=False)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'plan'}: {e['msg']}" for e in told)
