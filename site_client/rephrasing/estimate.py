"""What a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from site_client.folder import SiteFolder
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.corpus_folder import CorpusFolder
from site_client.rephrasing.plan import Plan, first_round
from site_client.rephrasing.results import contains
from site_client.rephrasing.selection import ChunkOrder, training_chunks


class ArmEstimate(BaseModel):
    """What is ahead of one arm.

    Attributes:
        arm: its name.
        prompt: digest of the prompt, its first digits.
        chunks: planned.
        done: of those, by earlier runs.
        patients: with training notes.
        source_tokens: estimated, of the planned chunks.
        prompt_tokens: estimated, of what the engine has to read for the chunks that are left.
        output_tokens: estimated, that it will write: as much as it reads of the source.
        tokens_per_second: measured in an earlier run or by ``--tune``; None when never measured.
        hours: at that speed.
    """

    model_config = ConfigDict(frozen=True)

    arm: str
    prompt: str
    chunks: int
    done: int
    patients: int
    source_tokens: int
    prompt_tokens: int
    output_tokens: int
    tokens_per_second: float | None
    hours: float | None


def estimate(folder: SiteFolder, arms: Sequence[Arm], plan: Plan, tuned: float | None = None) -> list[ArmEstimate]:
    """Say what a run would do.

    Args:
        folder: the site.
        arms: that would run.
        plan: how much.
        tuned: output tokens a second that ``--tune`` found for this model; None when it never ran.
    """
    corpus = CorpusFolder(folder)
    order = ChunkOrder(training_chunks(folder.notes), plan.seed, plan.per_patient)
    planned = first_round(order, plan.budget(order.all_tokens, len(arms)))
    return [_arm(folder, corpus, arm, order, planned, tuned) for arm in arms]


def _arm(
    folder: SiteFolder, corpus: CorpusFolder, arm: Arm, order: ChunkOrder, planned: int, tuned: float | None
) -> ArmEstimate:
    arm_folder = corpus.arm(arm)
    exists = (arm_folder.path / "arm.json").exists()
    finished = arm_folder.results.jobs()
    done = sum(contains(finished, arm.job(c)) for c in order.first(planned, training_chunks(folder.notes)))
    source = order.tokens(planned)
    left = (planned - done) / planned if planned else 0.0
    instruction = len(arm.prompt.template.split()) * 1.4
    speed = (arm_folder.record().tokens_per_second if exists else None) or tuned
    output = int(source * left)
    return ArmEstimate(
        arm=arm.name,
        prompt=arm.prompt.digest[:12],
        chunks=planned,
        done=done,
        patients=order.patients,
        source_tokens=source,
        prompt_tokens=int((source + instruction * planned) * left),
        output_tokens=output,
        tokens_per_second=speed,
        hours=round(output / speed / 3600, 2) if speed else None,
    )
