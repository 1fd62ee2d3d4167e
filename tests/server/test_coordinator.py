"""A coordinator's folder, enrolment and studies, without any process."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests_support import fednotes_here

from protocols.certificates import issue_client, make_authority, make_request, new_key
from protocols.enrolment import Enrolment, EnrolmentRequest, read_document, write_document
from protocols.manifest import ParameterManifest
from protocols.messages import InnerRecipe
from protocols.plan import Plan, SignedPlan
from server.enrolled import read_enrolled
from server.home import ServerHome
from server.release import release
from server.start import check_startable, warnings
from server.state import ServerFolder, StudyState
from server.studies import StudyFolder, find_study
from site_client.folder import SiteConfig, SiteFolder
from site_client.keys import make_keys

WEIGHTS = {"w": np.ones((2, 3), np.float32)}


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    done = fednotes_here("server", "init", tmp_path / "server", "--public", "fed.example.org", "--name", "Consortium")
    assert done.returncode == 0, done.stderr
    return ServerHome(tmp_path / "server")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    save_file(WEIGHTS, tmp_path / "model" / "model.safetensors")
    return tmp_path / "model"


def _request(folder: Path, name: str = "City Hospital") -> Path:
    make_keys(SiteFolder.create(folder, SiteConfig(name=name, number=0)))
    return folder / "enrolment-request.json"


def _fingerprint(request: Path) -> str:
    return read_document(request, EnrolmentRequest).fingerprint


def _enroll(home: ServerHome, request: Path, *more: object):
    return fednotes_here("server", "enroll", request, "--home", home.path, *more)


def _plan(tmp_path: Path, **changes: object) -> Path:
    facts = {
        "study": "autumn",
        "rounds": 4,
        "corpus": "real",
        "manifest_digest": ParameterManifest.of(WEIGHTS).digest,
        "recipe": InnerRecipe(steps=1, rows=1, row_length=16, peak_lr=0.1),
        "sites": 1,
        "quorum": 1,
    }
    path = tmp_path / "plan.json"
    path.write_text(Plan(**(facts | changes)).model_dump_json())
    return path


def test_the_folder_and_every_key_in_it_are_the_owners_alone(home: ServerHome) -> None:
    assert home.path.stat().st_mode & 0o777 == 0o700
    keys = list(home.keys.iterdir())
    assert {"authority.key", "ingress.key", "internal.key", "plan.key", "superexec.secret"} <= {k.name for k in keys}
    assert all(k.stat().st_mode & 0o077 == 0 for k in keys)


def test_a_site_is_enrolled_with_the_fingerprint_it_read_out(home: ServerHome, tmp_path: Path) -> None:
    request = _request(tmp_path / "site")
    shown = json.loads(_enroll(home, request, "--json").stdout)["fingerprint"]
    assert shown.replace(" ", "") == _fingerprint(request) and read_enrolled(home.enrolled) == {}
    done = _enroll(home, request, "--approve", shown.upper(), "--out", tmp_path / "answer.json")
    assert done.returncode == 0, done.stderr
    answer = read_document(tmp_path / "answer.json", Enrolment)
    assert (answer.site, answer.address, answer.coordinator) == (0, "fed.example.org:9443", "Consortium")
    (site,) = read_enrolled(home.enrolled).values()
    assert site.request.site_name == "City Hospital" and not site.revoked


def test_another_fingerprint_enrols_nobody(home: ServerHome, tmp_path: Path) -> None:
    done = _enroll(home, _request(tmp_path / "site"), "--approve", "0" * 64)
    assert done.returncode == 2 and "is not that of the request" in done.stderr
    assert read_enrolled(home.enrolled) == {}


def test_a_request_that_was_changed_on_its_way_has_another_fingerprint(home: ServerHome, tmp_path: Path) -> None:
    request = _request(tmp_path / "site")
    read_out = _fingerprint(request)
    other = read_document(_request(tmp_path / "thief"), EnrolmentRequest)
    mine = read_document(request, EnrolmentRequest)
    write_document(request, mine.model_copy(update={"certificate_request": other.certificate_request}))
    assert _enroll(home, request, "--approve", read_out).returncode == 2


def test_two_sites_never_share_a_node_key(home: ServerHome, tmp_path: Path) -> None:
    first = _request(tmp_path / "site")
    assert _enroll(home, first, "--approve", _fingerprint(first)).returncode == 0
    second = tmp_path / "second.json"
    write_document(second, read_document(first, EnrolmentRequest).model_copy(update={"site_name": "Other Hospital"}))
    done = _enroll(home, second, "--approve", _fingerprint(second))
    assert done.returncode == 2 and "same node key" in done.stderr


def test_a_site_that_renews_keeps_its_number_and_its_old_certificate_ends(home: ServerHome, tmp_path: Path) -> None:
    first = _request(tmp_path / "site")
    _enroll(home, first, "--approve", _fingerprint(first))
    (before,) = read_enrolled(home.enrolled)
    renewed = tmp_path / "renewed.json"
    fresh = make_request(new_key(), "whatever").decode()
    write_document(renewed, read_document(first, EnrolmentRequest).model_copy(update={"certificate_request": fresh}))
    assert _enroll(home, renewed, "--approve", _fingerprint(renewed)).returncode == 0
    ((fingerprint, site),) = read_enrolled(home.enrolled).items()
    assert site.site == 0 and fingerprint != before


def test_a_revoked_site_stays_on_the_list_as_revoked(home: ServerHome, tmp_path: Path) -> None:
    request = _request(tmp_path / "site")
    _enroll(home, request, "--approve", _fingerprint(request))
    done = fednotes_here("server", "enroll", "--revoke", 0, "--home", home.path, "--json")
    assert json.loads(done.stdout)["revoked"] is True
    listed = fednotes_here("server", "enroll", "--list", "--home", home.path)
    assert "0 City Hospital (revoked)" in listed.stdout
    assert fednotes_here("server", "enroll", "--revoke", 7, "--home", home.path).returncode == 2


def test_an_authority_of_ones_own_is_taken_and_a_plain_certificate_is_not(tmp_path: Path) -> None:
    pair = make_authority("Ours", days=30)
    leaf_key = new_key()
    leaf = issue_client(pair, make_request(leaf_key, "x"), "x", days=3)
    for name, key, certificate, status in (("ca", pair.key, pair.certificate, 0), ("leaf", leaf_key, leaf, 2)):
        (tmp_path / f"{name}.key").write_bytes(key)
        (tmp_path / f"{name}.pem").write_bytes(certificate)
        done = fednotes_here(
            *("server", "init", tmp_path / f"server-{name}", "--public", "fed.example.org"),
            *("--authority-key", tmp_path / f"{name}.key", "--authority-cert", tmp_path / f"{name}.pem"),
        )
        assert done.returncode == status, done.stderr


def test_a_plan_is_signed_and_its_study_wished_for(home: ServerHome, model: Path, tmp_path: Path) -> None:
    done = fednotes_here("server", "run", _plan(tmp_path), "--model", model, "--home", home.path, "--json")
    assert done.returncode == 0, done.stderr
    signed = read_document(Path(json.loads(done.stdout)["signed_plan"]), SignedPlan)
    assert signed.is_from((home.keys / "plan.pub").read_text())
    changed = signed.model_copy(update={"plan": signed.plan.model_copy(update={"rounds": 5})})
    assert not changed.is_from((home.keys / "plan.pub").read_text())
    assert find_study(home.studies, "autumn").record().wish == "running"
    for command, wish in (("halt", "stopped"), ("resume", "running")):
        fednotes_here("server", command, "autumn", "--home", home.path)
        assert find_study(home.studies, "autumn").record().wish == wish


def test_a_run_may_ask_for_less_and_not_for_more(home: ServerHome, model: Path, tmp_path: Path) -> None:
    run = ("server", "run", _plan(tmp_path), "--model", model, "--home", home.path, "--rounds")
    done = fednotes_here(*run, 5)
    assert done.returncode == 2 and "may only ask for less" in done.stderr
    assert fednotes_here(*run, 2).returncode == 0
    assert find_study(home.studies, "autumn").server.plan().rounds == 2


def test_a_plan_for_another_model_leaves_nothing_behind(home: ServerHome, model: Path, tmp_path: Path) -> None:
    plan = _plan(tmp_path, manifest_digest="0" * 64)
    done = fednotes_here("server", "run", plan, "--model", model, "--home", home.path)
    assert done.returncode == 2 and "for another model" in done.stderr
    assert not (home.studies / "autumn").exists()


@pytest.mark.parametrize("name", ["../../etc", "Autumn", "unknown"])
def test_a_study_that_is_none_is_named(home: ServerHome, name: str) -> None:
    done = fednotes_here("server", "halt", name, "--home", home.path)
    assert done.returncode == 2 and "study" in done.stderr.lower()


def test_a_plan_from_options_is_the_plan_that_is_run(home: ServerHome, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.json"
    options = ("--sites", 3, "--rounds", 7, "--dp-epsilon", 4, "--invite", 0, "--invite", 2)
    done = fednotes_here("server", "plan", "winter", "--model", model, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    plan = Plan.model_validate_json(out.read_text())
    assert (plan.sites, plan.quorum, plan.invited) == (3, 2, (0, 2))
    assert plan.privacy is not None and plan.privacy.target_epsilon == 4 and plan.outer.weights == "equal"
    wrong = fednotes_here("server", "plan", "Winter!", "--model", model, "--out", out, "--sites", 1)
    assert wrong.returncode == 2 and "study" in wrong.stderr


def test_a_release_holds_the_last_weights_and_says_what_they_are(home: ServerHome, model: Path, tmp_path: Path) -> None:
    fednotes_here("server", "run", _plan(tmp_path), "--model", model, "--home", home.path)
    early = fednotes_here("server", "release", "autumn", "--out", tmp_path / "early", "--home", home.path)
    assert early.returncode == 2 and "no finished round" in early.stderr
    study = StudyFolder(home.studies / "autumn")
    state = ServerFolder(study.path).load()
    from server.state import RoundRecord

    facts = {"accepted": [0], "refused": [], "train_loss": 1.0, "train_tokens": 5, "validation": {}}
    record = RoundRecord(round=1, bytes_up=1, bytes_down=1, seconds=1.0, **facts)
    study.server.save(StudyState(weights={"w": 2 * WEIGHTS["w"]}, momentum=state.momentum, history=[record]))
    assert release(study, tmp_path / "out") == 1
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Rounds: 1 of 4" in card and "it may remember its notes" in card
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(tmp_path / "out" / "model.safetensors")["w"], 2 * WEIGHTS["w"])


def test_a_damaged_state_of_flowers_is_named_with_the_way_back(home: ServerHome) -> None:
    home.database.parent.mkdir()
    home.database.write_bytes(b"no database" * 100)
    done = fednotes_here("server", "start", "--home", home.path, "--dry-run")
    assert done.returncode == 2 and str(home.database) in done.stderr and "move it away" in done.stderr


def test_a_taken_port_is_named_with_its_setting(home: ServerHome) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = (home.path / "server.toml").read_text()
        port = taken.getsockname()[1]
        (home.path / "server.toml").write_text(text.replace("fleet_port = 9092", f"fleet_port = {port}"))
        done = fednotes_here("server", "start", "--home", home.path, "--dry-run")
    assert done.returncode == 2 and str(port) in done.stderr and "fleet_port" in done.stderr


def test_a_wrong_setting_is_named(home: ServerHome) -> None:
    with (home.path / "server.toml").open("a") as file:
        file.write("no_such_setting = 1\n")
    done = fednotes_here("server", "status", "--home", home.path)
    assert done.returncode == 2 and "no_such_setting" in done.stderr


def test_certificates_that_end_soon_are_told_and_renewed(home: ServerHome) -> None:
    text = (home.path / "server.toml").read_text()
    (home.path / "server.toml").write_text(text.replace("server_days = 397", "server_days = 3"))
    fednotes_here("server", "renew", "--home", home.path)
    assert [w.split()[2] for w in warnings(home)] == ["internal.pem", "ingress.pem"]
    (home.path / "server.toml").write_text(text)
    fednotes_here("server", "renew", "--home", home.path)
    assert warnings(home) == []


def test_an_ended_certificate_stops_the_start(home: ServerHome) -> None:
    from protocols.certificates import issue_server
    from protocols.errors import UsageError
    from server.initialise import read_authority

    pair = issue_server(read_authority(home), ["localhost"], days=0)
    (home.keys / "ingress.pem").write_bytes(pair.certificate)
    with pytest.raises(UsageError, match=r"ingress\.pem is over"):
        check_startable(home)


def test_a_backup_of_the_coordinator_comes_back_as_a_coordinator(home: ServerHome, model: Path, tmp_path: Path) -> None:
    fednotes_here("server", "run", _plan(tmp_path), "--model", model, "--home", home.path)
    (tmp_path / "passphrase").write_text("correct horse battery\n")
    secret = ("--passphrase-file", tmp_path / "passphrase")
    bare = fednotes_here("server", "backup", tmp_path / "b", "--home", home.path)
    assert bare.returncode == 2 and "--passphrase-file" in bare.stderr
    assert fednotes_here("server", "backup", tmp_path / "b", "--home", home.path, *secret).returncode == 0
    assert fednotes_here("server", "restore", tmp_path / "b", tmp_path / "back", *secret).returncode == 0
    back = ServerHome(tmp_path / "back")
    assert back.config() == home.config() and find_study(back.studies, "autumn").record().wish == "running"


def test_a_backup_of_a_site_comes_back_as_a_site(tmp_path: Path) -> None:
    site = SiteFolder.create(tmp_path / "site", SiteConfig(name="City Hospital", number=0))
    make_keys(site)
    done = fednotes_here("site", "backup", tmp_path / "b", "--plain", "--site", site.path)
    assert done.returncode == 0, done.stderr
    done = fednotes_here("site", "restore", tmp_path / "b", tmp_path / "back", "--json")
    assert "privacy account" in json.loads(done.stdout)["warning"]
    assert SiteFolder(tmp_path / "back").pseudonym_key() == site.pseudonym_key()
