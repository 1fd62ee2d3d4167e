"""``fednotes server``: what a coordinator types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from protocols.errors import UsageError
from server.backup_cli import backup, restore
from server.plan_cli import plan
from server.receipts_cli import receipts as receipts_app

app = typer.Typer(no_args_is_help=True, help="Coordinate studies: enrol hospitals, run rounds, see what arrived.")
app.add_typer(receipts_app, name="receipts")
app.command("plan")(plan)
app.command("backup")(backup)
app.command("restore")(restore)

Home = Annotated[Path, typer.Option("--home", help="Server folder.", metavar="DIR")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")]
Study = Annotated[str, typer.Argument(help="Name of the study.")]


@app.command("init")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    public: Annotated[str, typer.Option("--public", help="Host, or host:port, under which sites reach you.")],
    name: Annotated[str, typer.Option("--name", help="What sites see you called.")] = "fednotes coordinator",
    nginx: Annotated[bool, typer.Option("--nginx", help="Put nginx in front of the ingress.")] = False,
    authority_key: Annotated[Path | None, typer.Option("--authority-key", help="Key of your own authority.")] = None,
    authority_cert: Annotated[Path | None, typer.Option("--authority-cert", help="Its certificate.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a coordinator's folder: authority, certificates, keys, configuration.

    Example: fednotes server init our-server --public fed.example.org
    """
    from protocols.certificates import KeyPair
    from server.home import ServerConfig, ServerHome
    from server.initialise import initialise

    if (authority_key is None) != (authority_cert is None):
        raise UsageError("--authority-key and --authority-cert belong together.", hint="give both or none")
    host, _, port = public.rpartition(":") if ":" in public else (public, "", "9443")
    if not port.isdigit() or not host:
        raise UsageError(f"{public!r} is no address.", hint="write fed.example.org or fed.example.org:9443")
    config = ServerConfig(
        name=name,
        public=f"{host}:{port}",
        names=tuple(dict.fromkeys([host, "localhost", "127.0.0.1"])),
        ingress_port=int(port),
        ingress_backend="nginx" if nginx else "own",
    )
    if not dry_run:
        pair = None
        if authority_key is not None and authority_cert is not None:
            pair = KeyPair(key=_bytes(authority_key), certificate=_bytes(authority_cert))
        initialise(ServerHome(folder), config, pair)
    _print({"folder": str(folder), "public": config.public, "made": not dry_run}, as_json)


@app.command("enroll")
def enroll(
    request: Annotated[Path | None, typer.Argument(help="Request of a site.")] = None,
    approve: Annotated[str, typer.Option("--approve", help="Fingerprint that the site read out to you.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Where to write the answer for the site.")] = None,
    number: Annotated[int | None, typer.Option("--number", min=0, max=9999, help="Number of the site.")] = None,
    revoke: Annotated[int | None, typer.Option("--revoke", min=0, max=9999, help="Take this site out.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the sites.")] = False,
    home: Home = Path(),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let a site in after comparing its fingerprint, take one out, or list them.

    Example: fednotes server enroll enrolment-request.json --approve "3f2a ..." --home our-server
    """
    from protocols.enrolment import EnrolmentRequest, read_document, write_document
    from server.enrol import enrol
    from server.enrol import revoke as take_out
    from server.enrolled import read_enrolled
    from server.home import ServerHome

    folder = ServerHome(home)
    folder.config()
    if listed:
        sites = sorted(read_enrolled(folder.enrolled).values(), key=lambda s: s.site)
        rows = [{"site": s.site, "name": s.request.site_name, "revoked": s.revoked} for s in sites]
        lines = [f"{s.site} {s.request.site_name}{' (revoked)' if s.revoked else ''}" for s in sites]
        _print({"sites": rows if as_json else lines}, as_json)
        return
    if revoke is not None:
        site = next((s for s in read_enrolled(folder.enrolled).values() if s.site == revoke), None)
        if not dry_run or site is None:
            site = take_out(folder, revoke)
        _print({"site": revoke, "name": site.request.site_name, "revoked": not dry_run}, as_json)
        return
    if request is None:
        raise UsageError("Nothing to do.", hint="give a request, --revoke NUMBER or --list")
    wish = read_document(request, EnrolmentRequest)
    if not approve or dry_run:
        from protocols.certificates import in_groups

        facts = {"site": wish.site_name, "fingerprint": in_groups(wish.fingerprint), "enrolled": False}
        _print(facts | ({} if as_json else {"next": "compare it by telephone, then give it with --approve"}), as_json)
        return
    enrolment = enrol(folder, wish, approve, number=number)
    path = out or request.with_name(f"enrolment-{enrolment.site:04d}.json")
    write_document(path, enrolment)
    _print({"site": enrolment.site, "name": wish.site_name, "answer": str(path), "enrolled": True}, as_json)


@app.command("start")
def start(
    home: Home = Path(),
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background; logs lie in logs/.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Keep SuperLink, SuperExec, the ingress and the studies running until Ctrl-C.

    Example: fednotes server start --home our-server --detach
    """
    from protocols.structured_log import configure
    from protocols.supervise import start_detached
    from server.home import ServerHome
    from server.start import check_startable, programs, run

    folder = ServerHome(home)
    if dry_run or detach:
        check_startable(folder)
        facts: dict[str, object] = {"programs": [p.name for p in programs(folder)], "started": not dry_run}
        if not dry_run:
            words = ["server", "start", "--home", str(home.resolve())]
            log = folder.logs / "supervisor.log"
            facts["process"] = start_detached(words, log, folder.state_file, hint="mend what it says, start again")
        _print(facts, as_json)
        return
    configure("coordinator")
    run(folder)


@app.command("stop")
def stop(home: Home = Path(), as_json: AsJson = False) -> None:
    """Stop everything; studies go on from their checkpoints at the next start.

    Example: fednotes server stop --home our-server
    """
    from protocols.supervise import stop_supervisor
    from server.home import ServerHome

    folder = ServerHome(home)
    folder.config()
    _print({"stopped": stop_supervisor(folder.state_file)}, as_json)


@app.command("status")
def status(home: Home = Path(), as_json: AsJson = False) -> None:
    """Show programs, certificates, sites and studies.

    Example: fednotes server status --home our-server
    """
    from server.home import ServerHome
    from server.status import in_words, status_of

    facts = status_of(ServerHome(home))
    print(json.dumps(facts) if as_json else in_words(facts))


@app.command("run")
def run_study(
    plan: Annotated[Path, typer.Argument(help="Plan (JSON).")],
    model: Annotated[Path, typer.Option("--model", help="Folder with the initial model.")],
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Fewer rounds than the plan's.")] = None,
    home: Home = Path(),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Sign a plan and run its study; hand signed-plan.json to the sites, which approve it.

    Example: fednotes server run plan.json --model start-model --home our-server
    """
    from protocols.signing import own_key
    from server.home import ServerHome
    from server.plan_cli import read_plan
    from server.studies import create_study

    folder = ServerHome(home)
    folder.config()
    wanted = read_plan(plan)
    if rounds is not None:
        if rounds > wanted.rounds:
            raise UsageError(
                f"The plan has {wanted.rounds} rounds; a run may only ask for less.", hint="lower --rounds"
            )
        wanted = wanted.model_copy(update={"rounds": rounds})
    if dry_run:
        _print({"study": wanted.study, "rounds": wanted.rounds, "started": False}, as_json)
        return
    study = create_study(folder.studies, wanted, model, own_key(folder.keys / "plan.key", folder.keys / "plan.pub"))
    study.wish("running", "")
    _print({"study": study.name, "signed_plan": str(study.signed_plan), "started": True}, as_json)


@app.command("resume")
def resume(study: Study, home: Home = Path(), as_json: AsJson = False) -> None:
    """Go on with a study that was halted or failed.

    Example: fednotes server resume autumn --home our-server
    """
    _wish(home, study, "running", as_json)


@app.command("halt")
def halt(study: Study, home: Home = Path(), as_json: AsJson = False) -> None:
    """End a study after its last checkpoint; it can be resumed.

    Example: fednotes server halt autumn --home our-server
    """
    _wish(home, study, "stopped", as_json)


@app.command("release")
def release_model(
    study: Study,
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    home: Home = Path(),
    as_json: AsJson = False,
) -> None:
    """Write the model of the last checkpoint as a folder that transformers loads.

    Example: fednotes server release autumn --out autumn-model --home our-server
    """
    from server.home import ServerHome
    from server.release import release
    from server.studies import find_study

    rounds = release(find_study(ServerHome(home).studies, study), out)
    _print({"study": study, "rounds": rounds, "model": str(out)}, as_json)


@app.command("renew")
def renew(home: Home = Path(), dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Make new keys and certificates for the coordinator's own listeners; start again afterwards.

    Example: fednotes server renew --home our-server
    """
    from server.home import ServerHome
    from server.initialise import issue_certificates

    folder = ServerHome(home)
    config = folder.config()
    if not dry_run:
        issue_certificates(folder, config)
    _print({"renewed": not dry_run, "days": config.server_days}, as_json)


def _wish(home: Path, name: str, wish: str, as_json: bool) -> None:
    from server.home import ServerHome
    from server.studies import find_study

    study = find_study(ServerHome(home).studies, name)
    study.wish("running" if wish == "running" else "stopped")
    _print({"study": name, "rounds_done": study.server.rounds_done(), "wish": wish}, as_json)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error


def _print(facts: dict[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        shown = "".join(f"\n  {line}" for line in value) or "none" if isinstance(value, list) else value
        print(f"{name.replace('_', ' ')}: {shown}")
