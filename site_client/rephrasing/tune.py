"""Finding how vLLM is fastest on this machine: try settings on a sample of the real work, keep the best."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from protocols.durable import write_text
from protocols.errors import UsageError
from site_client.engines.engine import Engine, EngineError, Request
from site_client.engines.vllm_engine import VllmSettings
from site_client.folder import SiteFolder
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.selection import ChunkOrder, training_chunks

SAMPLE = 512  # chunks


class Trial(BaseModel):
    """One setting and how fast it was; None where it could not run, for want of memory as a rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: VllmSettings
    tokens_per_second: float | None


class Tuning(BaseModel):
    """What ``--tune`` found, by model revision: ``corpus/tuning.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: dict[str, list[Trial]] = {}

    @classmethod
    def read(cls, folder: SiteFolder) -> Tuning:
        """Read what was found; empty when ``--tune`` never ran."""
        path = _file(folder)
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except ValidationError:
            raise UsageError(f"{path} cannot be read.", hint="delete it and run --tune again") from None

    def best(self, revision: str) -> Trial | None:
        """The fastest setting of a model; None when it was never tuned."""
        ran = [t for t in self.trials.get(revision, []) if t.tokens_per_second]
        return max(ran, key=lambda t: t.tokens_per_second or 0.0, default=None)


def candidates(start: VllmSettings) -> Iterator[VllmSettings]:
    """Settings to try, in two tiers as FinePhrase did (arXiv 2604.13977): batch sizes, then speculation.

    Args:
        start: what does not vary.
    """
    for num_seqs in (128, 256, 512, 1_024):
        for batched in (8_192, 16_384):
            yield start.model_copy(update={"max_num_seqs": num_seqs, "max_num_batched_tokens": batched})


def tune(
    folder: SiteFolder,
    arm: Arm,
    make: Callable[[VllmSettings], Engine],
    settings: Sequence[VllmSettings],
    told: Callable[[Trial], None] = lambda _: None,
) -> Trial:
    """Measure settings on a sample of the site's chunks and remember the fastest.

    Args:
        folder: the site; nothing is written to its corpus.
        arm: prompt and sampling to measure with.
        make: gives an engine for a setting.
        settings: of the first tier; the best of them is then tried with each kind of speculation.
        told: hears of every trial.

    Raises:
        EngineError: no setting could run.
    """
    order = ChunkOrder(training_chunks(folder.notes), arm.seed)
    sample = list(islice(order.first(min(SAMPLE, len(order)), training_chunks(folder.notes)), SAMPLE))
    requests = [arm.request(c, arm.job(c)) for c in sample]
    trials: list[Trial] = []

    def try_all(some: Sequence[VllmSettings]) -> Trial:
        for one in some:
            trials.append(Trial(settings=one, tokens_per_second=asyncio.run(_speed(make(one), requests))))
            told(trials[-1])
        best = Tuning(trials={"": trials}).best("")
        if best is None:
            raise EngineError(
                f"No setting could run {arm.model}.", hint="lower --context, or take a smaller model or more GPUs"
            )
        return best

    best = try_all(settings)
    best = try_all([best.settings.model_copy(update={"speculation": kind}) for kind in ("ngram", "suffix")])
    tuning = Tuning.read(folder)
    write_text(_file(folder), Tuning(trials={**tuning.trials, arm.revision: trials}).model_dump_json(indent=2))
    return best


async def _speed(engine: Engine, requests: Sequence[Request]) -> float | None:
    try:
        await engine.start()
        await engine.write(requests[0])  # warms up
        slots = asyncio.Semaphore(engine.window)

        async def one(request: Request) -> int:
            async with slots:
                return (await engine.write(request)).output_tokens

        started = time.monotonic()
        tokens = sum(await asyncio.gather(*map(one, requests)))
        return round(tokens / (time.monotonic() - started), 1)
    except EngineError:
        return None
    finally:
        await engine.close()


def _file(folder: SiteFolder) -> Path:
    return folder.corpus / "tuning.json"
