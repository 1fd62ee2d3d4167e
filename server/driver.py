"""Going on with studies whose Flower run ended: the next run starts from the last checkpoint, under the same name.

A study is ours, not Flower's. A Flower run does not survive a killed ServerApp or SuperExec, nor a SuperLink that is
away for more than about 15 s.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from protocols.error_codes import ErrorCode
from protocols.errors import FednotesError, WorkError
from protocols.metrics import ServerMetrics
from server.enrolled import read_enrolled
from server.flower_link import FlowerLink
from server.home import ServerHome
from server.studies import StudyFolder, all_studies

_LOG = logging.getLogger(__name__)
_TURN_S = 2.0
_NODES_EVERY_S = 20.0
_LONGEST_PAUSE_S = 60.0
_STOP_GRACE_S = 20.0
_LIVE = ("pending", "starting", "running")


@dataclass
class _Patience:
    """How long to wait before a study's next run.

    Attributes:
        rounds: done when the last run began.
        pause: before the next start [s].
        not_before: on the monotonic clock.
        stopping: since when a run outlives its study's stop.
    """

    rounds: int = -1
    pause: float = 1.0
    not_before: float = 0.0
    stopping: float = field(default=0.0)


class StudyDriver:
    """Keeps Flower runs going for the studies of a coordinator.

    Args:
        home: of the coordinator.
        metrics: show how studies and sites stand.
    """

    def __init__(self, home: ServerHome, metrics: ServerMetrics | None = None) -> None:
        self._home = home
        self._metrics = metrics or ServerMetrics()
        self._rounds_shown: dict[str, int] = {}
        self._link: FlowerLink | None = None
        self._patience: dict[str, _Patience] = {}
        self._next_turn = 0.0
        self._next_nodes = 0.0

    def turn(self) -> None:
        """Look after everything, at most every two seconds; called by the supervisor."""
        now = time.monotonic()
        if now < self._next_turn:
            return
        self._next_turn = now + _TURN_S
        try:
            if self._link is None:
                self._link = FlowerLink(self._home)
            if now >= self._next_nodes:
                self._admit_nodes(self._link)
                self._next_nodes = now + _NODES_EVERY_S
            for study in all_studies(self._home.studies):
                self._look_after(self._link, study)
        except FednotesError as error:  # SuperLink is being started again, or a file is damaged: told, and tried again
            _LOG.warning("%s", error)

    def _admit_nodes(self, link: FlowerLink) -> None:
        """Register the nodes of enrolled sites with Flower, and take revoked ones out."""
        registered = link.nodes()
        sites = read_enrolled(self._home.enrolled).values()
        wanted = {s.node_key for s in sites if not s.revoked}
        online = sum(status == "online" for key, (_, status) in registered.items() if key in wanted)
        for state, count in (
            ("connected", online),
            ("away", len(wanted) - online),
            ("revoked", len(sites) - len(wanted)),
        ):
            self._metrics.sites.labels(state).set(count)
        for key in wanted - registered.keys():
            link.register(key)
        for key in registered.keys() - wanted:
            link.unregister(registered[key][0])

    def _look_after(self, link: FlowerLink, study: StudyFolder) -> None:
        record, patience = study.record(), self._patience.setdefault(study.name, _Patience())
        plan, done, now = study.server.plan(), study.server.rounds_done(), time.monotonic()
        self._show(study, done, len(record.runs))
        if record.wish == "running" and done >= plan.rounds:
            study.wish("finished", "")
            return
        status = link.run_status(record.runs[-1]) if record.runs else "none"
        live = status.startswith(_LIVE)
        if record.wish != "running":
            self._end(link, study, patience, live, now)
        elif not live and now >= patience.not_before:
            patience.pause = 1.0 if done > patience.rounds else min(2 * patience.pause, _LONGEST_PAUSE_S)
            patience.rounds, patience.not_before = done, now + patience.pause
            run = link.start_run(study.name)
            study.add_run(run)
            _LOG.info("study %s goes on after round %d (its last run: %s)", study.name, done, status)

    def _show(self, study: StudyFolder, done: int, runs: int) -> None:
        self._metrics.rounds_done.labels(study.name).set(done)
        self._metrics.flower_runs.labels(study.name).set(runs)
        if done and self._rounds_shown.get(study.name) != done:
            last = study.server.history()[-1]
            self._metrics.last_round_seconds.labels(study.name).set(last.seconds)
            for code in ErrorCode:
                count = sum(refusal.code == code.name for refusal in last.refused)
                self._metrics.refused.labels(study.name, code.name).set(count)
            self._rounds_shown[study.name] = done

    @staticmethod
    def _end(link: FlowerLink, study: StudyFolder, patience: _Patience, live: bool, now: float) -> None:
        """A stopped study ends its run by itself; one that does not is stopped by Flower."""
        if not live:
            patience.stopping = 0.0
            return
        patience.stopping = patience.stopping or now
        if now - patience.stopping > _STOP_GRACE_S:
            try:
                link.stop_run(study.record().runs[-1])
            except WorkError:
                _LOG.warning("the run of study %s could not be stopped; trying again", study.name)
