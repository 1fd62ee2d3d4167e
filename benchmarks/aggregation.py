"""Averaging replies: the coordinator's path (read, check, add one at a time) against Flower's FedAvg helper.

Both start from the same records as they come off the wire. Ours also checks names, shapes, finiteness and norm, and
sums in float64; Flower's does neither.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from benchmarks.table import Row
from benchmarks.timing import side_by_side
from protocols.codec import decode_update, encode_reply
from protocols.error_codes import ErrorCode
from protocols.manifest import ParameterManifest
from protocols.messages import TrainReply
from server.aggregate import WeightedMean

_SITES = (2, 8, 32)
_MAX_NORM = 1e6
_FACTS = TrainReply(
    round=1, train_tokens=8_192, corpus_tokens=50_000, train_loss=4.0, validation_bits=9_000, validation_bytes=5_000
)


def rows() -> list[Row]:
    """Time ratio and peak memory at several numbers of sites."""
    arrays = _arrays()
    manifest = ParameterManifest.of(arrays)
    distinct = [_reply(arrays, seed) for seed in range(4)]  # together larger than a processor's cache
    found: list[Row] = []
    peaks: dict[int, tuple[float, float]] = {}
    for sites in _SITES:
        replies = [distinct[i % len(distinct)] for i in range(sites)]
        ours, theirs = side_by_side(partial(_ours, replies, manifest), partial(_theirs, replies), repeats=3)
        peaks[sites] = (
            _peak(partial(_ours, _arriving(arrays, sites), manifest)),
            _peak(partial(_theirs, _arriving(arrays, sites))),
        )
        found.append(
            Row(
                what=f"aggregation, {sites} sites, speed",
                against="Flower's FedAvg helper",
                measured=theirs / ours,
                bound="at least",
                target=2.0,
                unit="x",
                detail=f"{ours:.3f} s, Flower {theirs:.3f} s; {manifest.num_bytes / 4e6:.1f} M parameters, with checks",
            )
        )
    few, many = peaks[_SITES[0]], peaks[_SITES[-1]]
    found.append(
        Row(
            what=f"aggregation, memory at {_SITES[-1]} sites",
            against=f"memory at {_SITES[0]} sites",
            measured=many[0] / few[0],
            bound="at most",
            target=1.1,
            unit="x",
            detail=f"{few[0]:.0f} -> {many[0]:.0f} MB; Flower, with all replies, {few[1]:.0f} -> {many[1]:.0f} MB",
        )
    )
    return found


def _ours(replies: Iterable[RecordDict], manifest: ParameterManifest) -> None:
    mean = WeightedMean()
    for reply in replies:
        update = decode_update(reply, manifest, _MAX_NORM, malformed=ErrorCode.REPLY_MALFORMED)
        mean.add(update, weight=float(_FACTS.corpus_tokens))
    mean.result()


def _theirs(replies: Iterable[RecordDict]) -> None:
    aggregate_arrayrecords(list(replies), "corpus_tokens")


def _arriving(arrays: dict[str, np.ndarray], sites: int) -> Iterator[RecordDict]:
    """Replies that exist only when they are asked for, as from the network."""
    return (_reply(arrays, seed) for seed in range(sites))


def _reply(arrays: dict[str, np.ndarray], seed: int) -> RecordDict:
    return encode_reply(_FACTS, {name: array + np.float32(seed) for name, array in arrays.items()})


def _arrays() -> dict[str, np.ndarray]:
    """The weights of a small decoder, about 5 M parameters."""
    rng, width, inner = np.random.default_rng(0), 256, 672
    shapes: dict[str, tuple[int, ...]] = {"embed": (4_096, width)}
    for layer in range(5):
        shapes |= {f"{layer}.{name}": (width, width) for name in "qkvo"}
        shapes |= {f"{layer}.{name}": (inner, width) for name in ("gate", "up")}
        shapes |= {f"{layer}.down": (width, inner), f"{layer}.norm": (width,)}
    return {name: rng.normal(scale=0.01, size=shape).astype(np.float32) for name, shape in shapes.items()}


def _peak(call: Callable[[], None]) -> float:
    """Most memory that a call held at a time [MB]."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6
