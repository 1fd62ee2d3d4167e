"""How a coordinator stands: programs, certificates, sites, studies; for people and for machines."""

from __future__ import annotations

from typing import Any

from protocols.errors import FednotesError
from protocols.supervise import read_state
from server.enrolled import read_enrolled
from server.flower_link import FlowerLink
from server.home import ServerHome
from server.start import warnings
from server.studies import StudyFolder, all_studies


def status_of(home: ServerHome) -> dict[str, Any]:
    """Collect everything; what cannot be asked right now is missing, not guessed.

    Args:
        home: of the coordinator.
    """
    home.config()
    state = read_state(home.state_file)
    programs = {} if state is None else {n: p.model_dump() for n, p in state.programs.items()}
    online = _online(home) if programs else {}
    sites = sorted(read_enrolled(home.enrolled).values(), key=lambda s: s.site)
    return {
        "running": state is not None,
        "programs": programs,
        "warnings": warnings(home),
        "sites": [
            {
                "site": s.site,
                "name": s.request.site_name,
                "revoked": s.revoked,
                "connected": None if online is None else online.get(s.node_key) == "online",
            }
            for s in sites
        ],
        "studies": [_study(study) for study in all_studies(home.studies)],
    }


def in_words(facts: dict[str, Any]) -> str:
    """The same for a person."""
    lines = ["running" if facts["running"] else "not running: fednotes server start"]
    for name, program in facts["programs"].items():
        lines.append(f"  {name}: process {program['pid'] or 'none'}, started again {program['restarts']} times")
    lines += [f"warning: {text}" for text in facts["warnings"]]
    for site in facts["sites"]:
        there = "revoked" if site["revoked"] else {True: "connected", False: "away", None: "?"}[site["connected"]]
        lines.append(f"site {site['site']} ({site['name']}): {there}")
    for study in facts["studies"]:
        lines.append(f"study {study['study']}: {study['wish']}, {study['rounds_done']} of {study['rounds']} rounds")
        if last := study["last_round"]:
            refused = ", ".join(f"site {r['site']}: {r['code']}" for r in last["refused"]) or "none"
            lines.append(f"  round {last['round']}: accepted {last['accepted']}, refused {refused}")
        if study["last_failure"]:
            lines.append(f"  last failure: {study['last_failure']}")
    return "\n".join(lines)


def _study(study: StudyFolder) -> dict[str, Any]:
    record, plan = study.record(), study.server.plan()
    history = study.server.history()
    return {
        "study": study.name,
        "wish": record.wish,
        "rounds_done": len(history),
        "rounds": plan.rounds,
        "flower_runs": len(record.runs),
        "last_failure": record.last_failure,
        "last_round": history[-1].model_dump(mode="json", include={"round", "accepted", "refused", "seconds"})
        if history
        else None,
    }


def _online(home: ServerHome) -> dict[bytes, str] | None:
    try:
        link = FlowerLink(home)
        try:
            return {key: status for key, (_, status) in link.nodes().items()}
        finally:
            link.close()
    except (FednotesError, OSError):
        return None
