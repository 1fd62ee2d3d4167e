"""The whole path on one machine: notes -> hospitals -> rephrasing -> arms -> report. Each stage is done once."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from safetensors.numpy import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from modeling.release import load_model, model_with, new_model, save_model
from modeling.tokenizer import default_tokenizer
from protocols.durable import write_text
from protocols.errors import WorkError
from simulations.arms import Arms, arm_slug
from simulations.card import model_card
from simulations.options import Options
from simulations.prepare import Prepared, prepare, site_folders
from simulations.private_arm import privacy_facts
from simulations.report import write_report
from simulations.results import PRIVATE, Arm, GateFacts, Results, SiteFacts, WireFacts
from simulations.run_folder import RunFolder
from simulations.scenarios import CORPUS_PREFERENCE, OUTER_RECIPES, Scenario, scenario
from site_client.corpus import tokenize, training_documents
from site_client.engines.choose import EngineChoice
from site_client.folder import secure_umask
from site_client.gates.judge import GateCounts
from site_client.progress import Steps
from site_client.rephrasing.plan import Plan
from site_client.rephrasing.prompts import choose_prompts
from site_client.rephrasing.reading import read_synthetic
from site_client.rephrasing.run import ArmReport, rephrase_sites
from site_client.rephrasing.selection import training_chunks
from site_client.rephrasing.work import DEFAULT_PROMPT, Work, plan_work


class Rephrased(BaseModel):
    """What the second stage made: verdicts of the gates, and sites with their token counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gates: GateFacts
    sites: list[SiteFacts]


class Timing(BaseModel):
    """Wall time by stage, over all processes that worked on the run [s]."""

    seconds: dict[str, float] = {}


def simulate(options: Options, out: Path, *, resume: bool, overwrite: bool, quiet: bool = False) -> Results:
    """Run a simulation to its report.

    Args:
        options: what to do.
        out: output folder.
        resume: go on with the run that is there.
        overwrite: throw it away first.
        quiet: show no progress.

    Returns:
        What is in ``results.json``.

    Raises:
        FednotesError: wrong options or files, or the work failed; what is finished is kept for ``--resume``.
    """
    secure_umask()
    chosen = _chosen_scenario(options)
    run = RunFolder.open(out, options, resume=resume, overwrite=overwrite)
    steps = Steps(quiet=quiet)
    try:
        steps.seconds |= (run.read("timing", Timing) or Timing()).seconds
        return _stages(run, options, chosen, steps)
    except KeyboardInterrupt:
        raise WorkError(
            f"Stopped by Ctrl-C; what was finished is kept in {out}.", hint="go on with the same command and --resume"
        ) from None
    finally:
        with contextlib.suppress(WorkError):  # must not hide what went wrong before it
            run.write("timing", Timing(seconds=steps.seconds))
        run.close()


def _stages(run: RunFolder, options: Options, chosen: Scenario, steps: Steps) -> Results:
    work = _work(run, options)  # first, as a missing model should not cost an hour of reading notes
    if not run.initial_model.exists():
        with steps.step("setup", "Making the initial model"):
            model, tokenizer = _initial_model(options, chosen)
            save_model(run.initial_model, model, tokenizer, "The weights before the first round.\n")
    with steps.step("ingest", "Reading notes and making hospitals") as advance:
        prepared = prepare(run, options, chosen, advance)
    rephrased = _rephrase(run, work, prepared, steps)
    arms = Arms(run, prepared, chosen, steps, options.privacy).all()
    with steps.step("report", "Writing the report"):
        results = _results(run, options, chosen, prepared, rephrased, arms, steps)
        _release(run, results)
        write_text(run.path / "results.json", results.model_dump_json(indent=2))
        write_report(results, run.path / "report.html")
    return results


def _initial_model(options: Options, chosen: Scenario) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    if options.initial is not None:
        return load_model(options.initial)
    tokenizer = default_tokenizer()
    # No longer context than is trained on: notes are scored in windows of the model's context.
    return new_model(chosen.size, tokenizer, options.seed, chosen.recipe.row_length), tokenizer


def _chosen_scenario(options: Options) -> Scenario:
    base = scenario(options.scenario)
    rounds = options.rounds or base.rounds
    warmup = min(base.recipe.warmup_steps, rounds * base.recipe.steps // 5)  # a short run must not be all warmup
    chosen = replace(
        base,
        rounds=rounds,
        size=options.size or base.size,
        outer=OUTER_RECIPES[options.outer] if options.outer else base.outer,
        recipe=base.recipe.model_copy(
            update={"packing": options.packing, "seed": options.seed, "warmup_steps": warmup}
        ),
    )
    if options.privacy is None:
        return chosen
    overrides = {
        name: value
        for name in ("sampling_rate", "max_records", "max_grad_norm")
        if (value := getattr(options.privacy, name)) is not None
    }
    return replace(chosen, private=replace(base.private, **overrides)).with_private_arm()


def _work(run: RunFolder, options: Options) -> Work:
    choice = EngineChoice(engine=options.engine, model=options.model, endpoints=options.endpoints)
    prompts = choose_prompts([*options.prompts] or [DEFAULT_PROMPT])
    return plan_work(choice, prompts, log=run.path / "logs" / "vllm.log", seed=options.seed)


def _rephrase(run: RunFolder, work: Work, prepared: Prepared, steps: Steps) -> Rephrased:
    if (done := run.read("rephrased", Rephrased)) is not None:
        return done
    folders = site_folders(run, prepared)
    chunks = len(work.arms) * sum(1 for f in folders for _ in training_chunks(f.notes))
    with steps.step("rephrasing", f"Rephrasing with the {work.name} engine", chunks) as advance:
        reports = rephrase_sites(
            folders,
            work.engine,
            work.arms,
            Plan(),
            engine_name=work.name,
            told=lambda progress: advance(progress.batch),
        )
    _, tokenizer = load_model(run.initial_model)
    sites: list[SiteFacts] = []
    for facts, folder in zip(prepared.sites, folders, strict=True):
        real = sum(len(d.tokens) for d in training_documents(folder, "real", tokenizer))
        synthetic = sum(len(d.tokens) for d in tokenize([*read_synthetic(folder)], tokenizer))
        sites.append(facts.model_copy(update={"real_tokens": real, "synthetic_tokens": synthetic}))
    rephrased = Rephrased(gates=_gate_facts(work.name, sites, reports), sites=sites)
    run.write("rephrased", rephrased)
    return rephrased


def _gate_facts(engine: str, sites: list[SiteFacts], reports: list[list[ArmReport]]) -> GateFacts:
    by_site: defaultdict[str, GateCounts] = defaultdict(GateCounts)
    by_arm: defaultdict[str, GateCounts] = defaultdict(GateCounts)
    for site, arms in zip(sites, reports, strict=True):
        for arm in arms:
            by_site[site.name] += arm.counts.gates
            by_arm[arm.arm] += arm.counts.gates
    total = sum(by_site.values(), start=GateCounts())
    return GateFacts(
        engine=engine,
        judged=total.judged,
        accepted=total.accepted,
        rejected=dict(total.rejected),
        by_site={name: {"judged": c.judged, "accepted": c.accepted} for name, c in by_site.items()},
        by_arm={name: {"judged": c.judged, "accepted": c.accepted} for name, c in by_arm.items()},
    )


def _results(
    run: RunFolder,
    options: Options,
    chosen: Scenario,
    prepared: Prepared,
    rephrased: Rephrased,
    arms: list[Arm],
    steps: Steps,
) -> Results:
    rounds = [r for arm in arms for r in arm.rounds]
    model, _ = load_model(run.initial_model)
    return Results(
        fednotes_version=version("fednotes"),
        scenario=options.scenario,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=options.seed,
        model=chosen.size,
        parameters=sum(p.numel() for p in model.parameters()),
        arms=arms,
        sites=rephrased.sites,
        dropped=prepared.dropped,
        gates=rephrased.gates,
        wire=WireFacts(
            bytes_up_per_round=sum(r.bytes_up for r in rounds) // max(1, len(rounds)),
            bytes_down_per_round=sum(r.bytes_down for r in rounds) // max(1, len(rounds)),
        ),
        privacy=privacy_facts(options.privacy, chosen.private, arms),
        timing_seconds={stage: round(seconds, 3) for stage, seconds in steps.seconds.items()},
    )


def _release(run: RunFolder, results: Results) -> None:
    """Write ``model/``: the one under differential privacy if there is one, else that on the richest corpus."""
    federated = {arm.corpus: arm for arm in results.arms if arm.name == "federated"}
    private = next((arm for arm in results.arms if arm.name == PRIVATE), None)
    arm = private or next((federated[c] for c in CORPUS_PREFERENCE if c in federated), None)
    if arm is None:
        return
    weights = load_file(run.weights(arm_slug(arm.name, arm.corpus)))
    _, tokenizer = load_model(run.initial_model)
    save_model(run.path / "model", model_with(run.initial_model, weights), tokenizer, model_card(results, arm))
