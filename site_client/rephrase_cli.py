"""``fednotes site rephrase``: options in; the run, the estimate, the check, the view or the tuning out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from protocols.errors import UsageError

if TYPE_CHECKING:
    from site_client.folder import SiteFolder
    from site_client.rephrasing.estimate import ArmEstimate
    from site_client.rephrasing.plan import Plan
    from site_client.rephrasing.prompts import Prompt
    from site_client.rephrasing.run import ArmReport
    from site_client.rephrasing.work import Work

_PANEL_MODEL, _PANEL_PLAN, _PANEL_OTHER, _PANEL_VLLM = "Who writes", "How much", "Instead of a run", "vLLM"

Site = Annotated[Path, typer.Option("--site", help="Site folder.", metavar="DIR")]
EngineOption = Annotated[
    str, typer.Option("--engine", help="Who rephrases: rules, vllm, openai.", rich_help_panel=_PANEL_MODEL)
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="Folder, preset or hub name; repeat for several.", rich_help_panel=_PANEL_MODEL),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", help="Commit of a hub name, or digest of a folder.", rich_help_panel=_PANEL_MODEL),
]
Endpoints = Annotated[
    list[str] | None,
    typer.Option("--endpoint", help="Address of an OpenAI-compatible server; repeat.", rich_help_panel=_PANEL_MODEL),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", help="Prompt by name, or P1, P2, P3; repeat.", rich_help_panel=_PANEL_MODEL),
]
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", min=0, max=2, help="Instead of the model's.", rich_help_panel=_PANEL_MODEL),
]
Judge = Annotated[
    bool, typer.Option("--judge", help="Let the model judge its own texts too.", rich_help_panel=_PANEL_MODEL)
]


def rephrase(
    site: Site = Path(),
    engine: EngineOption = "rules",
    model: Models = None,
    revision: Revision = None,
    endpoint: Endpoints = None,
    prompt: Prompts = None,
    temperature: Temperature = None,
    judge: Judge = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of draws and samples.", rich_help_panel=_PANEL_PLAN)] = 0,
    token_budget: Annotated[
        int | None,
        typer.Option("--token-budget", min=1, help="Accepted tokens for each arm.", rich_help_panel=_PANEL_PLAN),
    ] = None,
    synthetic_share: Annotated[
        float | None,
        typer.Option("--synthetic-share", help="Of all text, above 0 and below 1.", rich_help_panel=_PANEL_PLAN),
    ] = None,
    per_patient: Annotated[
        int | None,
        typer.Option("--per-patient", min=1, help="Most chunks of one patient.", rich_help_panel=_PANEL_PLAN),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done.", rich_help_panel=_PANEL_OTHER)
    ] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Find vLLM's fastest settings.", rich_help_panel=_PANEL_OTHER)
    ] = False,
    show: Annotated[
        int, typer.Option("--show", min=0, help="Show so many examples side by side.", rich_help_panel=_PANEL_OTHER)
    ] = 0,
    check: Annotated[
        Path | None, typer.Option("--check", help="Judge the pairs of this file.", rich_help_panel=_PANEL_OTHER)
    ] = None,
    max_num_seqs: Annotated[
        int | None, typer.Option("--max-num-seqs", min=1, help="Replies at once.", rich_help_panel=_PANEL_VLLM)
    ] = None,
    context: Annotated[
        int | None,
        typer.Option("--context", min=64, help="Longest prompt and reply.", rich_help_panel=_PANEL_VLLM),
    ] = None,
    gpu_memory: Annotated[
        float | None, typer.Option("--gpu-memory", help="Share of a GPU's memory.", rich_help_panel=_PANEL_VLLM)
    ] = None,
    tensor_parallel: Annotated[
        int | None, typer.Option("--tensor-parallel", min=1, help="GPUs a copy.", rich_help_panel=_PANEL_VLLM)
    ] = None,
    data_parallel: Annotated[
        int | None, typer.Option("--data-parallel", min=1, help="Copies of the model.", rich_help_panel=_PANEL_VLLM)
    ] = None,
    speculation: Annotated[
        str | None, typer.Option("--speculation", help="none, ngram or suffix.", rich_help_panel=_PANEL_VLLM)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rephrase the training notes and keep what passes the gates; an interrupted run goes on where it was.

    Example: fednotes site rephrase --site our-site --engine vllm --model qwen2-7b --prompt P1 --prompt P2
    """
    from site_client.folder import SiteFolder, secure_umask
    from site_client.rephrasing.plan import Plan

    secure_umask()
    if check is not None:
        _check(check, site, as_json)
        return
    folder = SiteFolder(site)
    folder.config()
    if show:
        _show(folder, show, seed, as_json)
        return
    if synthetic_share is not None and not 0 < synthetic_share < 1:
        raise UsageError("--synthetic-share lies between 0 and 1.", hint="0.3 and 0.5 are usual")
    plan = Plan(token_budget=token_budget, synthetic_share=synthetic_share, per_patient=per_patient, seed=seed)
    given = {
        "max_num_seqs": max_num_seqs,
        "context": context,
        "gpu_memory_utilization": gpu_memory,
        "tensor_parallel": tensor_parallel,
        "data_parallel": data_parallel,
        "speculation": speculation,
    }
    options = _Options(
        folder, engine, model or [], revision, tuple(endpoint or ()), prompt or [], temperature, judge, seed, given
    )
    if tune:
        _tune(options, as_json)
    elif dry_run:
        _estimate(options, plan, as_json)
    else:
        _run(options, plan, as_json)


@dataclass(frozen=True)
class _Options:
    """What was typed about engines and prompts."""

    folder: SiteFolder
    engine: str
    models: list[str]
    revision: str | None
    endpoints: tuple[str, ...]
    prompts: list[str]
    temperature: float | None
    judge: bool
    seed: int
    vllm: Mapping[str, object]

    def works(self) -> list[Work]:
        """An engine with its arms for each model."""
        from site_client.engines.choose import ENGINES
        from site_client.rephrasing.prompts import choose_prompts
        from site_client.rephrasing.work import DEFAULT_PROMPT

        if self.engine not in ENGINES:
            raise UsageError(f"There is no engine {self.engine!r}.", hint=f"choose one of: {', '.join(ENGINES)}")
        if self.revision is not None and len(self.models) > 1:
            raise UsageError("--revision goes with one --model.", hint="write NAME@COMMIT for each of several")
        if self.judge and self.engine == "rules":
            raise UsageError("The rules engine cannot judge.", hint="--judge needs a language model")
        prompts = choose_prompts(self.prompts or [DEFAULT_PROMPT], self.folder.path)
        models: list[str | None] = [*self.models] or [None]
        works = [self._work(model, prompts) for model in models]
        names = [arm.name for work in works for arm in work.arms]
        if len(set(names)) < len(names):
            raise UsageError("Two models have the same short name.", hint="rename one of the folders")
        return works

    def _work(self, model: str | None, prompts: list[Prompt]) -> Work:
        from site_client.engines.choose import EngineChoice
        from site_client.engines.vllm_engine import VllmEngine
        from site_client.rephrasing.tune import Tuning
        from site_client.rephrasing.work import plan_work

        given = {name: value for name, value in self.vllm.items() if value is not None}
        if given and self.engine != "vllm":
            raise UsageError(f"--{next(iter(given)).replace('_', '-')} goes with --engine vllm.")
        try:
            choice = EngineChoice.model_validate(
                {
                    "engine": self.engine,
                    "model": model,
                    "revision": self.revision,
                    "endpoints": self.endpoints,
                    "vllm": given,
                }
            )
        except ValidationError as error:
            wrong = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors(include_input=False))
            raise UsageError(f"Wrong option: {wrong}.", hint="fednotes site rephrase --help") from None
        work = plan_work(
            choice,
            prompts,
            log=self.folder.log.with_name("vllm.log"),
            seed=self.seed,
            temperature=self.temperature,
            second_opinion=self.judge,
            hosts=self.folder.config().rephrasing.endpoints,
            notice=lambda words: print(words, file=sys.stderr),
        )
        best = Tuning.read(self.folder).best(work.engine.revision)
        if isinstance(work.engine, VllmEngine) and best is not None:
            return replace(work, engine=work.engine.with_settings(best.settings.model_copy(update=given)))
        return work


def _run(options: _Options, plan: Plan, as_json: bool) -> None:
    from site_client.rephrasing.progress_line import progress_line
    from site_client.rephrasing.run import rephrase_sites

    reports: list[ArmReport] = []
    with progress_line(quiet=as_json) as told:
        for work in options.works():
            reports += rephrase_sites([options.folder], work.engine, work.arms, plan, engine_name=work.name, told=told)[
                0
            ]
    if as_json:
        print(json.dumps({"arms": [_facts(report) for report in reports]}))
        return
    for report in reports:
        gates = report.counts.gates
        rejected = ", ".join(f"{name} {count:,}" for name, count in gates.rejected.most_common())
        print(f"{report.arm}: {gates.accepted:,} of {gates.judged:,} rephrasings accepted, {report.new:,} of them new.")
        print(f"  accepted tokens: {report.counts.accepted_tokens:,}")
        print(f"  rejected by first gate: {rejected or 'none'}")
        if report.tokens_per_second is not None:
            print(f"  speed: {report.tokens_per_second:,.0f} output tokens/s")
        if report.repaired:
            print(f"  repaired: {report.repaired:,} bytes of a broken batch were taken out and done again")


def _facts(report: ArmReport) -> dict[str, object]:
    gates = report.counts.gates
    return {
        "arm": report.arm,
        "judged": gates.judged,
        "accepted": gates.accepted,
        "rejected": dict(gates.rejected),
        "accepted_tokens": report.counts.accepted_tokens,
        "output_tokens": report.counts.output_tokens,
        "new": report.new,
        "repaired_bytes": report.repaired,
        "tokens_per_second": report.tokens_per_second,
    }


def _estimate(options: _Options, plan: Plan, as_json: bool) -> None:
    from site_client.rephrasing.estimate import estimate
    from site_client.rephrasing.tune import Tuning

    tuning = Tuning.read(options.folder)
    arms: list[ArmEstimate] = []
    prompts: dict[str, str] = {}
    for work in options.works():
        best = tuning.best(work.engine.revision)
        arms += estimate(options.folder, work.arms, plan, best.tokens_per_second if best else None)
        prompts |= {arm.prompt.name: arm.prompt.template for arm in work.arms}
    if as_json:
        print(json.dumps({"arms": [a.model_dump() for a in arms], "prompts": prompts, "written": False}))
        return
    for name, template in prompts.items():
        print(f"--- prompt {name}\n{template}\n---")
    for arm in arms:
        hours = "unknown: run --tune to measure" if arm.hours is None else f"{arm.hours:,.2f} h"
        print(
            f"{arm.arm}: {arm.chunks - arm.done:,} of {arm.chunks:,} chunks of {arm.patients:,} patients to do, about "
            f"{arm.prompt_tokens:,} tokens to read and {arm.output_tokens:,} to write; time {hours}"
        )
    print("Nothing was written.")


def _tune(options: _Options, as_json: bool) -> None:
    from site_client.engines.vllm_engine import VllmEngine
    from site_client.rephrasing.tune import Trial, candidates, tune

    def told(trial: Trial) -> None:
        s = trial.settings
        speed = "does not run" if trial.tokens_per_second is None else f"{trial.tokens_per_second:,.0f} tok/s"
        print(
            f"{s.max_num_seqs} replies, {s.max_num_batched_tokens} tokens a pass, speculation {s.speculation}: {speed}",
            file=sys.stderr,
        )

    best: dict[str, Trial] = {}
    for work in options.works():
        if not isinstance(work.engine, VllmEngine):
            raise UsageError(
                "--tune is for --engine vllm.", hint="the openai engine finds its concurrency while it works"
            )
        typed = {"max_num_seqs", "max_num_batched_tokens"} & {n for n, v in options.vllm.items() if v is not None}
        settings = [work.engine.settings] if typed else list(candidates(work.engine.settings))
        found = tune(options.folder, work.arms[0], work.engine.with_settings, settings, told)
        best[work.engine.model] = found
    if as_json:
        print(json.dumps({"best": {name: trial.model_dump() for name, trial in best.items()}}))
        return
    for name, trial in best.items():
        print(f"{name}: {trial.tokens_per_second or 0:,.0f} tok/s; later runs use these settings")


def _show(folder: SiteFolder, number: int, seed: int, as_json: bool) -> None:
    from dataclasses import asdict

    from rich.console import Console

    from site_client.rephrasing.corpus_folder import CorpusFolder
    from site_client.show.page import write_page
    from site_client.show.pick import pick_and_count
    from site_client.show.terminal import print_examples

    examples, totals = pick_and_count(CorpusFolder(folder), number, seed)
    page = folder.corpus / "show.html"
    write_page(examples, page, folder.config().name, totals)
    if as_json:  # no texts: what is printed ends up in logs
        print(json.dumps({"page": str(page), "examples": len(examples), "arms": [asdict(t) for t in totals]}))
        return
    print_examples(examples, Console())
    print(f"page, which holds notes and must not leave the site: {page}")


def _check(pairs: Path, site: Path, as_json: bool) -> None:
    """Judge given pairs; a site's own prompts count where there is a site."""
    from site_client.gates.candidate import Allowance
    from site_client.gates.check import check_pairs
    from site_client.rephrasing.prompts import all_prompts

    prompts = all_prompts(site if (site / "site.toml").exists() else None)

    def allowance_of(style: str) -> Allowance:
        return prompts[style].allows if style in prompts else Allowance()

    verdicts = check_pairs(pairs, allowance_of)
    if as_json:
        print(json.dumps({"pairs": list(verdicts)}))
        return
    for verdict in verdicts:
        print(f"{verdict['id']}: {'accepted' if verdict['accepted'] else 'rejected, ' + ', '.join(verdict['reasons'])}")
