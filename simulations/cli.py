"""``fednotes simulate``: options in; a report, a summary and the report's path out."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from protocols.errors import UsageError
from simulations.options import Options, PrivacyOptions
from simulations.scenarios import SCENARIOS
from site_client.column_options import (
    NoteIdColumn,
    PatientColumn,
    Preset,
    TextColumn,
    TimeColumn,
    TypeColumn,
    columns_from,
)

if TYPE_CHECKING:
    from simulations.results import Results

_SCENARIOS = "\n\n".join(f"{s.name}: {s.summary}" for s in SCENARIOS.values())


def simulate(
    notes: Annotated[
        list[Path] | None,
        typer.Option("--notes", help="Export file or folder; repeat for several. Without it, notes are generated."),
    ] = None,
    site_by: Annotated[
        str | None, typer.Option("--site-by", help="Column whose values tell hospitals apart, or 'folder'.")
    ] = None,
    site_map: Annotated[
        str | None, typer.Option("--site-map", help="TOML file, or name of a built-in map, from values to hospitals.")
    ] = None,
    sites: Annotated[int | None, typer.Option("--sites", min=1, max=999, help="Number of hospitals.")] = None,
    scenario: Annotated[str, typer.Option("--scenario", help=f"What to compare: {', '.join(SCENARIOS)}.")] = "demo",
    engine: Annotated[str, typer.Option("--engine", help="Who rephrases: rules, vllm, openai.")] = "rules",
    model: Annotated[
        str | None, typer.Option("--model", help="Rephrasing model: folder, preset, or hub name with its commit.")
    ] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option("--endpoint", help="Address of an OpenAI-compatible server; repeat for several.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", help="Prompt by name, or P1, P2, P3; repeat for several.")
    ] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds of the federated arms.")] = None,
    size: Annotated[str | None, typer.Option("--size", help="Model size, e.g. pico, nano, micro, mini, 125m.")] = None,
    outer: Annotated[
        str | None, typer.Option("--outer", help="Outer optimizer of the federated arms: fedavg or nesterov.")
    ] = None,
    packing: Annotated[
        str, typer.Option("--packing", help="stream: rows are full; patient: no two patients share a row.")
    ] = "stream",
    dp_epsilon: Annotated[
        float | None,
        typer.Option("--dp-epsilon", help="Train one more federated model under differential privacy of this epsilon."),
    ] = None,
    dp_unit: Annotated[
        str, typer.Option("--dp-unit", help="Whose privacy: patient; note and record protect a patient less.")
    ] = "patient",
    dp_delta: Annotated[float, typer.Option("--dp-delta", help="Delta, below 1 / patients.")] = 1e-5,
    dp_sampling_rate: Annotated[
        float | None, typer.Option("--dp-sampling-rate", help="Chance of a patient to enter a step.")
    ] = None,
    dp_max_records: Annotated[
        int | None, typer.Option("--dp-max-records", help="Packed rows of a patient in a step.")
    ] = None,
    dp_clip: Annotated[float | None, typer.Option("--dp-clip", help="Bound on the gradient of a patient.")] = None,
    dp_central_noise: Annotated[
        float | None,
        typer.Option("--dp-central-noise", help="Noise multiplier at the coordinator, for hospitals; a column apart."),
    ] = None,
    initial: Annotated[
        Path | None, typer.Option("--initial", help="Model folder to start from instead of fresh weights.")
    ] = None,
    evals: Annotated[
        list[str] | None,
        typer.Option("--eval", help="Further evaluation set as NAME=PATH; repeat for several.", metavar="NAME=PATH"),
    ] = None,
    deidentify: Annotated[str, typer.Option("--deidentify", help="pattern or none.")] = "pattern",
    skip_small_sites: Annotated[
        bool, typer.Option("--skip-small-sites", help="Leave hospitals out that have too few patients.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first record that cannot be read.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything random in the experiment.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="Output folder.")] = Path("runs/latest"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away the run in the output folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")] = False,
    preset: Preset = None,
    text_column: TextColumn = None,
    patient_column: PatientColumn = None,
    note_id_column: NoteIdColumn = None,
    type_column: TypeColumn = None,
    time_column: TimeColumn = None,
) -> None:
    """Run a study of many hospitals on this machine.

    Example: fednotes simulate --notes notes.csv.gz --site-by hospital --sites 5 --out runs/first
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other.")
    columns = columns_from(
        preset,
        text=text_column,
        patient_id=patient_column,
        note_id=note_id_column,
        note_type=type_column,
        time=time_column,
    )
    try:
        options = Options(
            notes=tuple(notes or ()),
            columns=columns,
            site_by=site_by,
            site_map=site_map,
            sites=sites,
            scenario=scenario,
            engine=cast("Literal['rules']", engine),
            model=model,
            endpoints=tuple(endpoint or ()),
            prompts=tuple(prompt or ()),
            rounds=rounds,
            size=size,
            outer=cast("Literal['fedavg'] | None", outer),
            packing=cast("Literal['stream']", packing),
            privacy=_privacy(
                dp_epsilon,
                unit=dp_unit,
                delta=dp_delta,
                sampling_rate=dp_sampling_rate,
                max_records=dp_max_records,
                max_grad_norm=dp_clip,
                central_noise=dp_central_noise,
            ),
            initial=initial,
            deidentify=cast("Literal['none']", deidentify),
            evals=dict(_eval_set(e) for e in evals or ()),
            skip_small_sites=skip_small_sites,
            strict=strict,
            seed=seed,
        )
    except ValidationError as error:
        wrong = "; ".join(f"--{_option(str(e['loc'][0]))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"Wrong option: {wrong}.", hint="fednotes simulate --help") from None
    from simulations.run import simulate as run  # loads torch, transformers and Flower

    results = run(options, out, resume=resume, overwrite=overwrite)
    if as_json:
        print(results.model_dump_json(indent=2))
    else:
        _print_summary(results, out)


def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    notes: Annotated[list[Path], typer.Option("--notes", help="Export file or folder; repeat for several.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    preset: Preset = None,
    text_column: TextColumn = None,
    patient_column: PatientColumn = None,
    type_column: TypeColumn = None,
) -> None:
    """Score a model on notes, in bits per byte by note type.

    Example: fednotes model evaluate runs/demo/model --notes notes.csv
    """
    from modeling.release import load_model
    from simulations.evaluation import evaluate_notes
    from site_client.notes.quarantine import Quarantine
    from site_client.progress import Steps

    columns = columns_from(preset, text=text_column, patient_id=patient_column, note_type=type_column)
    loaded, tokenizer = load_model(model)
    quarantine = Quarantine()
    try:
        with Steps(quiet=as_json).step("evaluation", "Scoring notes") as advance:
            scores = evaluate_notes(loaded, tokenizer, notes, columns, quarantine, advance)
    finally:  # where no note was left, these are the reasons
        if left_out := quarantine.counts():
            print(f"Records left out: {_by_reason(left_out)}", file=sys.stderr)
    if as_json:
        print(json.dumps({name: score.model_dump() for name, score in scores.items()}))
        return
    table = Table(title="Bits per byte (lower is better)")
    table.add_column("notes")
    table.add_column("bits/byte", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, score in scores.items():
        table.add_row(name, f"{score.value:.3f}", f"{score.ci_low:.3f} to {score.ci_high:.3f}")
    Console().print(table)


_DP_OPTIONS = {"target_epsilon": "dp-epsilon", "max_grad_norm": "dp-clip"}


def _option(field: str) -> str:
    """Name of the option behind a field."""
    if field in PrivacyOptions.model_fields:
        return _DP_OPTIONS.get(field, "dp-" + field.replace("_", "-"))
    return field.replace("_", "-")


def _privacy(target: float | None, **others: object) -> PrivacyOptions | None:
    """The ``--dp-`` options; without an epsilon none of the others means anything."""
    if target is not None:
        return PrivacyOptions.model_validate({"target_epsilon": target, **others})
    given = [name for name, value in others.items() if value != PrivacyOptions.model_fields[name].default]
    if given:
        raise UsageError(f"--{_option(given[0])} needs --dp-epsilon.", hint="e.g. --dp-epsilon 8")
    return None


def _eval_set(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not path or not re.fullmatch(r"[\w .-]{1,60}", name):
        raise UsageError(f"--eval {text} is not of the form NAME=PATH.", hint="e.g. --eval letters=letters.csv")
    return name, Path(path)


def _by_reason(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {number:,}" for reason, number in counts.items())


def _print_summary(results: Results, out: Path) -> None:
    console = Console()
    table = Table(title="Bits per byte on the held-out notes of all hospitals (lower is better)")
    for heading in ("arm", "corpus"):
        table.add_column(heading, overflow="fold")
    for heading in ("bits/byte", "95 % interval", "train tokens", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm in results.arms:
        score = arm.bits_per_byte["all"]
        interval = f"{score.ci_low:.3f} to {score.ci_high:.3f}"
        table.add_row(
            arm.name, arm.corpus, f"{score.value:.3f}", interval, f"{arm.train_tokens:,}", f"{arm.seconds:.1f}"
        )
    console.print(table)
    if results.privacy is not None:
        spent = getattr(results.privacy, f"{results.privacy.unit}_level_epsilon")
        console.print(
            f"federated-dp: {results.privacy.unit}-level epsilon {spent:.2f} at delta {results.privacy.delta:g}, at "
            "the hospital that spent most."
        )
    if results.gates.engine == "rules":
        console.print("Rephrasings are by the rules engine, a deterministic rewriter and no language model.")
    if results.dropped:
        places = (out / "prepared.json").resolve()
        console.print(
            f"Records left out: {_by_reason(results.dropped)}; places of the unreadable ones in {places}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    for name in ("report.html", "results.json", "model"):
        console.print(f"{name:13}{(out / name).resolve()}", soft_wrap=True, highlight=False)
