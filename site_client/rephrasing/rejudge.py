"""Judging results anew when the gates, or what a prompt allows, have changed: seconds instead of days on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice

from privacy.note_types import Chunk
from site_client.gates.candidate import Candidate
from site_client.gates.judge import judge
from site_client.rephrasing import second_opinion
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.results import Result, ResultsFile

_BLOCK = 20_000  # chunks held at a time, about 40 MB


def judge_again(results: ResultsFile, arm: Arm, chunks: Callable[[], Iterable[Chunk]]) -> None:
    """Give every result that belongs to a present chunk its verdict by the present gates; the others stay as they are.

    Args:
        results: is replaced whole.
        arm: whose results these are.
        chunks: gives all training chunks of the site.
    """
    results.rewrite(_judged(results, arm, chunks))


def _judged(results: ResultsFile, arm: Arm, chunks: Callable[[], Iterable[Chunk]]) -> Iterator[Result]:
    seen: set[str] = set()
    jobs = ((arm.job(chunk), chunk) for chunk in chunks())
    while block := dict(islice(jobs, _BLOCK)):
        for result in results.read():
            if (chunk := block.get(result.job)) is not None:
                seen.add(result.job)
                verdict = _verdict(result, chunk, arm)
                if verdict is not None:
                    yield replace(result, reasons=verdict)
    yield from (result for result in results.read() if result.job not in seen)


def _verdict(result: Result, chunk: Chunk, arm: Arm) -> list[str] | None:
    """Reasons by the present gates; None when the model has yet to be asked, so that the job is done again."""
    reasons = judge(
        Candidate(
            source=chunk.text,
            text=result.text,
            header=chunk.header,
            finish_reason=result.finish_reason,
            allows=arm.prompt.allows,
        )
    )
    if reasons or not arm.second_opinion:
        return list(reasons)
    if result.reasons and second_opinion.REASON not in result.reasons:
        return None
    return result.reasons
