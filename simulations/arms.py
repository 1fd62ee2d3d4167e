"""The arms of the comparison: one federated, pooled or single-hospital training each, at equal training tokens.

Every arm sees the same number of tokens in the same number of steps: a step of a pooled or single-hospital arm has as
many rows as the steps of all hospitals together (docs/decisions/0003-equal-tokens-equal-steps.md).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from modeling.arrays import load_arrays, to_arrays
from modeling.packing import Document
from modeling.release import load_model, load_tokenizer
from protocols.durable import whole_file, whole_folder
from protocols.manifest import ParameterManifest
from protocols.messages import Corpus
from protocols.plan import Plan
from server.state import RoundRecord, ServerFolder
from simulations.evaluation import evaluate
from simulations.federation import run_federated
from simulations.options import PrivacyOptions
from simulations.prepare import Prepared, evaluation_sets, site_folders
from simulations.private_arm import expected_tokens, private_plan, spent_by_unit
from simulations.results import PRIVATE, Arm, RoundFacts
from simulations.run_folder import RunFolder
from simulations.scenarios import Scenario
from site_client.corpus import training_documents
from site_client.progress import Steps
from site_client.train import make_optimizer, make_rows, train_steps

_CURVE_POINTS = 100
_SLUGS = {"+": "-plus-", ":": "-"}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training an arm gave.

    Attributes:
        weights: final.
        train_tokens: tokens that counted in the loss.
        corpus_tokens: one pass over the corpus.
        seconds: training time.
        curve: (tokens so far, loss) pairs.
        rounds: facts of a federated arm's rounds.
    """

    weights: dict[str, NDArray[np.float32]]
    train_tokens: int
    corpus_tokens: int
    seconds: float
    curve: list[tuple[int, float]]
    rounds: list[RoundFacts]


class Arms:
    """Trains and evaluates arms, once each: a finished arm is read back.

    Args:
        run: output folder.
        prepared: the hospitals.
        scenario: recipe, rounds, outer optimizer.
        steps: shows progress.
        privacy: of the private arm, if there is one.
    """

    def __init__(
        self, run: RunFolder, prepared: Prepared, scenario: Scenario, steps: Steps, privacy: PrivacyOptions | None
    ) -> None:
        self._run = run
        self._prepared = prepared
        self._scenario = scenario
        self._steps = steps
        self._privacy = privacy
        self._sets = evaluation_sets(run, prepared)
        self._tokenizer = load_tokenizer(run.initial_model)

    def all(self) -> list[Arm]:
        """Give every arm of the scenario, training those that are not finished yet."""
        arms: list[Arm] = []
        for spec in self._scenario.arms:
            if spec.trainer == "federated":
                arms.append(self._finished("federated", spec.corpus, None))
            elif spec.trainer == "private":
                arms.append(self._finished(PRIVATE, spec.corpus, None))
            elif spec.trainer == "pooled":
                arms.append(self._finished("pooled", spec.corpus, range(len(self._prepared.sites))))
            else:
                for number, site in enumerate(self._prepared.sites):
                    arms.append(self._finished(f"site:{site.name}", spec.corpus, [number]))
        return arms

    def _finished(self, name: str, corpus: Corpus, sites: Sequence[int] | None) -> Arm:
        """Read an arm back, or train (at those sites; federated when None) and evaluate it."""
        # The number, not the name, is in the file name: hospital names are free text.
        slug = arm_slug(name if sites is None or len(sites) > 1 else f"site-{sites[0]:03d}", corpus)
        if (arm := self._run.read(f"arms/{slug}", Arm)) is not None:
            return arm
        title = f"{name} on {corpus}"
        trained = self._federated(name, title, corpus) if sites is None else self._local(title, corpus, sites)
        with whole_file(self._run.weights(slug)) as partial:
            save_file(trained.weights, partial)
        model, tokenizer = load_model(self._run.initial_model)
        load_arrays(model, trained.weights)
        with self._steps.step("evaluation", f"  evaluating {title}", None) as advance:
            scores = evaluate(model, tokenizer, self._sets, [s.name for s in self._prepared.sites], advance)
        arm = Arm(
            name=name,
            corpus=corpus,
            bits_per_byte=scores,
            train_tokens=trained.train_tokens,
            corpus_tokens=trained.corpus_tokens,
            seconds=round(trained.seconds, 3),
            loss_curve=trained.curve,
            rounds=trained.rounds,
        )
        self._run.write(f"arms/{slug}", arm)
        return arm

    def _documents(self, corpus: Corpus, sites: Sequence[int]) -> list[Document]:
        folders = site_folders(self._run, self._prepared)
        return [d for s in sites for d in training_documents(folders[s], corpus, self._tokenizer)]

    def _local(self, title: str, corpus: Corpus, sites: Sequence[int]) -> Trained:
        recipe = self._scenario.recipe
        wide = recipe.model_copy(update={"rows": recipe.rows * len(self._prepared.sites)})
        model, tokenizer = load_model(self._run.initial_model)
        rows = make_rows(self._documents(corpus, sites), wide, tokenizer)
        total, curve, tokens = self._scenario.rounds * wide.steps, list[tuple[int, float]](), 0
        started = time.monotonic()
        with self._steps.step("training", f"Training {title}", total) as advance:

            def on_step(step_tokens: int, loss: float) -> None:
                nonlocal tokens
                tokens += step_tokens
                curve.append((tokens, round(loss, 4)))
                advance(1)

            train_steps(
                model,
                make_optimizer(model, wide),
                rows,
                wide,
                first_step=0,
                steps=total,
                total_steps=total,
                on_step=on_step,
            )
        return Trained(
            weights=to_arrays(model),
            train_tokens=tokens,
            corpus_tokens=rows.num_tokens,
            seconds=time.monotonic() - started,
            curve=_thin(curve),
            rounds=[],
        )

    def _federated(self, name: str, title: str, corpus: Corpus) -> Trained:
        folder = self._study(arm_slug(name, corpus), self._plan(name, corpus))
        plan = folder.plan()
        with self._steps.step("federation", f"Training {title}", plan.rounds) as advance:
            advance(folder.rounds_done())
            whole = folder.rounds_done() == plan.rounds or run_federated(
                folder.path,
                self._run.sites,
                num_sites=plan.sites,
                model_bytes=folder.manifest().num_bytes,
                log=self._run.path / "logs" / "flower.log",
                on_round=lambda _: advance(1),
            )
        if not whole:
            raise KeyboardInterrupt
        state = folder.load()
        names = [s.name for s in self._prepared.sites]
        told = [r.train_tokens for r in state.history if r.train_tokens is not None]
        tokens = np.cumsum(told) if told else np.zeros(0, int)
        losses = [r.train_loss for r in state.history if r.train_loss is not None]
        return Trained(
            weights=state.weights,
            train_tokens=int(tokens[-1]) if told else self._expected_tokens(plan),
            corpus_tokens=sum(len(d.tokens) + 1 for d in self._documents(corpus, range(len(names)))),
            seconds=sum(r.seconds for r in state.history),
            curve=[(int(t), round(loss, 4)) for t, loss in zip(tokens, losses, strict=True)],
            rounds=[_round_facts(r, names) for r in state.history],
        )

    def _plan(self, name: str, corpus: Corpus) -> Plan:
        """The plan of a federated arm, for the initial model."""
        sites = len(self._prepared.sites)
        plan = Plan(
            study=arm_slug(name, corpus),
            rounds=self._scenario.rounds,
            corpus=corpus,
            manifest_digest=ParameterManifest.of(load_file(self._run.initial_model / "model.safetensors")).digest,
            recipe=self._scenario.recipe,
            outer=self._scenario.outer,
            sites=sites,
            quorum=sites // 2 + 1,
        )
        if name != PRIVATE or self._privacy is None:
            return plan
        return private_plan(plan, self._privacy, self._scenario.private)

    def _expected_tokens(self, plan: Plan) -> int:
        """Tokens that a private arm trains on, on average over its draws."""
        if plan.privacy is None:
            return 0
        folders = site_folders(self._run, self._prepared)
        per_step = [expected_tokens(folder, plan.corpus, plan, self._tokenizer) for folder in folders]
        return round(sum(per_step) * plan.recipe.steps * plan.rounds)

    def _study(self, name: str, plan: Plan) -> ServerFolder:
        """Make the server folder of a federated arm, or find it."""
        path = self._run.study(name)
        if not (path / "model").exists():
            with whole_folder(path / "model") as partial:
                shutil.copytree(self._run.initial_model, partial, dirs_exist_ok=True)
        return ServerFolder.create(path, plan)


def arm_slug(name: str, corpus: Corpus) -> str:
    """File and study name of an arm: lower-case letters, digits and hyphens."""
    slug = f"{name}-{corpus}"
    for mark, word in _SLUGS.items():
        slug = slug.replace(mark, word)
    return slug


def _round_facts(record: RoundRecord, names: Sequence[str]) -> RoundFacts:
    bits = {names[s]: b / n for s, (b, n) in record.validation.items()}
    if record.validation:
        sums = np.array(list(record.validation.values())).sum(axis=0)
        bits["all"] = sums[0] / sums[1]
    return RoundFacts(
        round=record.round,
        train_loss=record.train_loss,
        bits_per_byte={name: round(float(value), 5) for name, value in bits.items()},
        refused={names[r.site] if r.site is not None else "unknown": r.code for r in record.refused},
        bytes_up=record.bytes_up,
        bytes_down=record.bytes_down,
        seconds=round(record.seconds, 3),
        site_level_epsilon=record.site_level_epsilon,
        **spent_by_unit(record.privacy, names),
    )


def _thin(curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Keep about a hundred points, the last one among them."""
    stride = max(1, len(curve) // _CURVE_POINTS)
    return curve[::-1][::stride][::-1]
