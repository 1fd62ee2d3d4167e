"""The round loop: greet, ask, check, average, step, checkpoint; and again.

Flower's stock strategies hold all replies in memory, cannot resume and average whatever arrives; this loop runs on
Flower's Grid instead and does none of the three (see docs/decisions/0002-own-round-loop.md).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from privacy.randomness import SecureRandom
from protocols.codec import encode_request, payload_bytes
from protocols.error_codes import ContractError, ErrorCode
from protocols.errors import UsageError, WorkError
from protocols.messages import HelloRequest, PrivateTrainReply, TrainReply, TrainRequest
from protocols.plan import CentralNoise, Plan
from server.aggregate import WeightedMean
from server.central_noise import add_noise, bound_norm, site_level_epsilon
from server.exchange import ask, online_nodes
from server.ingress import accept_hello, accept_update, may_mend
from server.outer import outer_step
from server.state import Refusal, RoundRecord, ServerFolder, StudyState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protocols.manifest import Arrays

_HELLO_DEADLINE_S = 120.0


@dataclass(kw_only=True)
class _RoundTally:
    """What has come in so far in a round."""

    mean: WeightedMean = field(default_factory=WeightedMean)
    accepted: dict[int, TrainReply | PrivateTrainReply] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    lost: dict[int, ErrorCode] = field(default_factory=dict)
    resent: Counter[int] = field(default_factory=Counter)
    bytes_up: int = 0


class Study:
    """One study on a grid, from its checkpoint to its last round.

    Args:
        grid: Flower's grid.
        folder: plan, initial model and checkpoints.
        stop: when set, the study ends after its last checkpoint.
        on_round: told of every finished round.
    """

    def __init__(
        self,
        grid: Grid,
        folder: ServerFolder,
        *,
        stop: threading.Event,
        on_round: Callable[[RoundRecord], None],
    ) -> None:
        self._grid = grid
        self._folder = folder
        self._plan: Plan = folder.plan()
        self._manifest = folder.manifest()
        if self._manifest.digest != self._plan.manifest_digest:
            raise UsageError(f"The plan in {folder.path} is for another model than the one in {folder.model}.")
        self._stop = stop
        self._on_round = on_round
        self._roster: dict[int, int] = {}  # node -> site number
        self._random = SecureRandom.from_system()

    def run(self) -> StudyState:
        """Run the rounds that are left.

        Returns:
            The state after the last finished round.

        Raises:
            WorkError: too few sites, or too few accepted replies in a round; the last checkpoint stays.
        """
        state = self._folder.load()
        if len(state.history) < self._plan.rounds:
            self._wait_for_sites()
        while len(state.history) < self._plan.rounds and not self._stop.is_set():
            finished = self._run_round(state)
            if finished is None:
                break
            state = finished
            self._folder.save(state)
            self._on_round(state.history[-1])
        return state

    def _run_round(self, state: StudyState) -> StudyState | None:
        """One round; None when it was stopped from outside."""
        started, number = time.monotonic(), len(state.history) + 1
        unnamed = self._greet()
        request = TrainRequest(
            study=self._plan.study,
            round=number,
            rounds=self._plan.rounds,
            corpus=self._plan.corpus,
            recipe=self._plan.recipe,
            privacy=self._plan.privacy,
        )
        records = encode_request(request, state.weights)
        tally = _RoundTally(refused=unnamed)
        messages = [
            Message(records, dst_node_id=node, message_type="train", ttl=self._plan.deadline_s) for node in self._roster
        ]
        silent = ask(
            self._grid,
            messages,
            deadline_s=self._plan.deadline_s,
            on_reply=lambda node, reply: self._take(tally, self._roster[node], reply, number),
            stop=self._stop,
            rejoin_s=self._plan.rejoin_s,
        )
        if self._stop.is_set():
            return None
        for site in (self._roster[node] for node in silent):
            tally.refused.append(Refusal(site=site, code=tally.lost.get(site, ErrorCode.NO_REPLY).name))
        self._require_quorum(len(tally.accepted), f"accepted updates in round {number}", tally.refused)
        average = tally.mean.result()
        if self._plan.central is not None:
            average = self._with_noise(average, self._plan.central, len(tally.accepted))
        weights, momentum = outer_step(self._plan.outer, state.weights, average, state.momentum)
        record = self._record(number, tally, payload_bytes(records) * len(messages), time.monotonic() - started)
        return StudyState(weights=weights, momentum=momentum, history=[*state.history, record])

    def _take(self, tally: _RoundTally, site: int, reply: Message, number: int) -> bool:
        """Count one reply, or record why not; true when the site was lost and may be asked again."""
        try:
            update = accept_update(reply, number, self._manifest, self._plan.max_update_norm, self._plan.privacy)
        except ContractError as error:
            if may_mend(reply) and self._plan.rejoin_s:
                tally.lost[site] = error.code
                tally.resent[site] += 1
                return True
            tally.refused.append(Refusal(site=site, code=error.code.name))
            return False
        central = self._plan.central
        arrays = update.arrays if central is None else bound_norm(update.arrays, central.max_site_norm)
        tally.mean.add(arrays, self._weight(update.facts))
        tally.accepted[site] = update.facts
        tally.bytes_up += update.num_bytes
        return False

    def _weight(self, facts: TrainReply | PrivateTrainReply) -> float:
        if self._plan.outer.weights == "equal" or isinstance(facts, PrivateTrainReply):
            return 1.0
        # A corpus of under 500 tokens is rounded to 0; it still counts as the smallest that can be told.
        return float(max(facts.corpus_tokens, 1_000))

    def _record(self, number: int, tally: _RoundTally, bytes_down: int, seconds: float) -> RoundRecord:
        facts = dict(sorted(tally.accepted.items()))
        told = {site: f for site, f in facts.items() if isinstance(f, TrainReply)}
        total = sum(self._weight(f) for f in told.values())
        return RoundRecord(
            round=number,
            accepted=list(facts),
            refused=sorted(tally.refused, key=lambda r: (r.site is None, r.site)),
            train_loss=sum(f.train_loss * self._weight(f) for f in told.values()) / total if told else None,
            train_tokens=sum(f.train_tokens for f in told.values()) if told else None,
            validation={s: (f.validation_bits, f.validation_bytes) for s, f in told.items() if f.validation_bytes},
            bytes_up=tally.bytes_up,
            bytes_down=bytes_down,
            seconds=seconds,
            resent=dict(sorted(tally.resent.items())),
            privacy={
                site: f.model_dump(exclude={"round"}) for site, f in facts.items() if isinstance(f, PrivateTrainReply)
            },
            site_level_epsilon=None if self._plan.central is None else site_level_epsilon(self._plan.central, number),
        )

    def _with_noise(self, average: Arrays, central: CentralNoise, accepted: int) -> dict[str, NDArray[np.float32]]:
        # Over the number of sites in the plan: the number of replies is itself what one hospital changes.
        share = accepted / self._plan.sites
        std = central.noise_multiplier * central.max_site_norm / self._plan.sites
        return add_noise({name: array * np.float32(share) for name, array in average.items()}, std, self._random)

    def _wait_for_sites(self) -> None:
        """Give the expected sites time to connect; Flower shows no node at first."""
        end = time.monotonic() + self._plan.join_s
        while len(online_nodes(self._grid)) < self._plan.sites and time.monotonic() < end:
            if self._stop.wait(0.2):
                return
        connected = len(online_nodes(self._grid))
        self._require_quorum(connected, f"sites connected after {self._plan.join_s:g} s", [])

    def _greet(self) -> list[Refusal]:
        """Learn the site numbers of new nodes and forget those that left."""
        nodes = online_nodes(self._grid)
        self._roster = {node: site for node, site in self._roster.items() if node in nodes}
        records = encode_request(HelloRequest())
        messages = [Message(records, dst_node_id=n, message_type="query.hello") for n in nodes - self._roster.keys()]
        refused: list[Refusal] = []

        def take(node: int, reply: Message) -> None:
            try:
                site = accept_hello(reply)
                if site in self._roster.values():
                    raise ContractError(ErrorCode.DUPLICATE_SITE)
                self._roster[node] = site
            except ContractError as error:
                refused.append(Refusal(site=None, code=error.code.name))

        silent = ask(
            self._grid,
            messages,
            deadline_s=min(_HELLO_DEADLINE_S, self._plan.deadline_s),
            on_reply=take,
            stop=self._stop,
        )
        return refused + [Refusal(site=None, code=ErrorCode.NO_REPLY.name)] * len(silent)

    def _require_quorum(self, count: int, what: str, refused: list[Refusal]) -> None:
        if count >= self._plan.quorum:
            return
        reasons = ", ".join(f"{'site ' + str(r.site) if r.site is not None else 'a site'}: {r.code}" for r in refused)
        raise WorkError(
            f"Study {self._plan.study} stopped: {count} {what}, the quorum is {self._plan.quorum}"
            + (f" ({reasons})." if reasons else "."),
            hint=f"its checkpoint of round {self._folder.rounds_done()} is kept; mend the sites and run with --resume",
        )
