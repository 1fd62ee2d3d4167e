"""Whole audits with real models: what an untrained one shows, what one that knows its notes by heart shows."""

import json
import logging
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from corpus_support import make_arm, rephrase_by_hand
from typer.testing import CliRunner

from protocols.errors import UsageError, WorkError
from site_client.audit.audit_cli import audit, plant
from site_client.audit.measure import Audited, run_audit
from site_client.audit.model_facts import AuditOptions
from site_client.audit.report import AuditReport, UpperBound, read_report
from site_client.audit.synthetic import corpus_facts
from site_client.audit.wording import is_refuted, leaks, sentences, verdict
from site_client.store import read_split


def command() -> typer.Typer:
    app = typer.Typer()
    app.command("plant")(plant)
    app.command("audit")(audit)
    return app


def run(*words: object):
    return CliRunner().invoke(command(), [str(w) for w in words])


def test_untrained_model_shows_chance_and_nothing_else(planted):
    report = run_audit(
        planted.site, [Audited(path=planted.initial)], options=AuditOptions(alternatives=127, planted=planted.strings)
    )
    [model] = report.models
    assert (report.canaries, report.repeats, report.min_patients) == (48, 2, 5)
    assert model.one_run.guesses == 24
    assert model.one_run.patient_level_lower_bound < 1.0  # 0 in 19 of 20 runs
    assert model.one_run.patient_level_ceiling == pytest.approx(2.02, abs=0.01)
    for group in (model.exposure.included, model.exposure.left_out):
        assert 0.5 < group.mean < 2.9
        assert sum(group.histogram) == group.count
    assert model.exposure.included.count + model.exposure.left_out.count == 48
    assert {row.extracted for row in model.extraction.rows} == {0}
    assert [(r.what, r.known) for r in model.extraction.rows if r.what == "planted"] == [
        ("planted", 10),
        ("planted", 50),
    ]
    assert (model.membership.training_patients, model.membership.held_out_patients) == (20, 15)
    assert model.membership.auc_low < 0.6
    assert not is_refuted(model)


@pytest.mark.slow
def test_overfitted_model_is_caught_by_every_part(planted, overfitted):
    models = [Audited(path=overfitted), Audited(path=planted.initial)]
    options = AuditOptions(alternatives=255, planted=planted.strings, samples=64)
    report = run_audit(planted.site, models, reference=planted.initial, options=options)
    bad, good = report.models
    assert bad.one_run.correct >= 23
    assert bad.one_run.patient_level_lower_bound > 1.3
    assert bad.exposure.included.median > 6
    assert 0.5 < bad.exposure.left_out.mean < 2.9
    extracted = {(r.what, r.known): r.extracted / r.tried for r in bad.extraction.rows}
    assert extracted["included", 4] > 0.5
    assert extracted["left_out", 4] == extracted["left_out", 1] == 0
    assert extracted["planted", 50] > 0
    assert bad.membership.auc > 0.8 and bad.membership.reference
    assert bad.membership.auc_low > 0.7
    assert not good.membership.reference  # the model less itself would be nothing
    assert leaks(bad)
    assert verdict(report).startswith("overfitted remembers") or leaks(good)


@pytest.mark.slow
def test_claim_below_the_lower_bound_is_called_refuted(planted, overfitted):
    claim = UpperBound(unit="patient", value=0.5, delta=1e-6)
    options = AuditOptions(alternatives=63, patients=6)
    report = run_audit(planted.site, [Audited(path=overfitted, upper_bound=claim)], options=options)
    [model] = report.models
    assert model.one_run.delta == 1e-6
    assert is_refuted(model)
    assert "REFUTES" in sentences(model)[0]
    assert "do not release" in verdict(report)
    other = model.model_copy(update={"upper_bound": UpperBound(unit="note", value=0.5, delta=1e-6)})
    assert not is_refuted(other)  # a bound for a note says nothing about a patient with two


def test_command_writes_report_and_page_without_any_secret_key_or_text(planted, tmp_path, caplog):
    file = tmp_path / "planted.txt"
    file.write_text("\n".join(planted.strings))
    caplog.set_level(logging.DEBUG)
    words = ["--site", planted.site.path, "--planted", file, "--patients", 10, "--out", tmp_path / "out"]
    other = shutil.copytree(planted.initial, tmp_path / "other" / "initial")
    done = run("audit", planted.initial, *words, "--compare", other, "--samples", 4)
    assert done.exit_code == 0, done.exception
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["audit.html", "audit.json"]
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in out.iterdir())
    report = read_report(out)
    assert [m.name for m in report.models] == [f"{planted.initial.parent.name}/initial", "other/initial"]
    said = [done.output, done.stderr, caplog.text, *(p.read_text() for p in out.iterdir())]
    forbidden = {c.secret for c in planted.canaries.canaries} | {c.patient for c in planted.canaries.canaries}
    forbidden |= set(planted.strings) | {p.split()[-1] for p in planted.strings}
    for note in [n for split in ("train", "test") for n in read_split(planted.site.notes, split)]:
        forbidden |= {note.patient_key, note.note_key, note.text, note.text[:40]}
    for text in said:
        assert not [f for f in forbidden if f in text]
        assert planted.canaries.canaries[0].words[0] not in text.split()


def test_site_without_canaries_gets_the_other_parts_and_is_told(patients, model_folder):
    done = run("audit", model_folder, "--site", patients.path, "--json", "--patients", 6)
    assert done.exit_code == 0, done.exception
    report = AuditReport.model_validate(json.loads(done.stdout))
    [model] = report.models
    assert model.one_run is model.exposure is model.extraction is None
    assert model.membership.training_patients == 6
    assert any("No canary patients were planted" in r for r in report.remarks)
    assert (patients.path / "audit" / "audit.html").exists()


def test_groups_below_the_minimum_are_not_reported(tmp_path, model_folder):
    from corpus_support import make_site_of

    from site_client.audit.canaries import plant as plant_canaries

    notes = {"train": {f"t{i}": [f"Wound {i} is clean."] for i in range(40)}, "test": {"x": ["Return soon."]}}
    site = make_site_of(tmp_path / "site", notes, min_patients=40)
    plant_canaries(site, 32)
    report = run_audit(site, [Audited(path=model_folder)], options=AuditOptions(alternatives=15, planted=("Wound 1",)))
    [model] = report.models
    assert model.one_run is model.extraction is model.membership is None
    assert model.exposure.included is model.exposure.left_out is None
    assert sum("fewer than 40" in r.lower() for r in report.remarks) == 3


def test_model_without_likelihoods_is_told(planted, tmp_path):
    from modeling.release import load_model, save_model

    model, tokenizer = load_model(planted.initial)
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    save_model(tmp_path / "broken", model, tokenizer, "# Broken\n")
    with pytest.raises(WorkError, match="no finite likelihood"):
        run_audit(planted.site, [Audited(path=tmp_path / "broken")], options=AuditOptions(alternatives=3))


def test_rephrasings_are_searched_for_secrets_and_planted_strings(planted, tmp_path):
    site = replace(planted.site, path=Path(shutil.copytree(planted.site.path, tmp_path / "site")))
    assert corpus_facts(site, planted.canaries, planted.strings, min_patients=5) is None
    kept = [c for c in planted.canaries.canaries if c.included][:3]

    def write(chunk):
        for canary in kept:
            if canary.secret in chunk.text:
                return f"Access to the portal was given with the code {canary.secret.upper()}, and explained."
        return f"Rephrased: {planted.strings[0]}" if planted.strings[0] in chunk.text else "Nothing to see."

    rephrase_by_hand(site, make_arm(), write)
    facts = corpus_facts(site, planted.canaries, planted.strings, min_patients=5)
    assert (facts.secrets_surviving, facts.left_out_surviving) == (3, 0)
    assert facts.canaries_rephrased == sum(c.included for c in planted.canaries.canaries)
    assert (facts.planted, facts.planted_surviving) == (len(planted.strings), 1)
    assert corpus_facts(site, None, None, min_patients=10_000) is None


def test_canaries_that_left_the_store_are_remarked(planted, tmp_path):
    from site_client.store import write_notes

    site = replace(planted.site, path=Path(shutil.copytree(planted.site.path, tmp_path / "site")))
    notes = read_split(site.notes, "test")
    write_notes(site.notes, notes, {n.patient_key: "test" for n in notes})
    report = run_audit(site, [Audited(path=planted.initial)], options=AuditOptions(alternatives=15))
    assert any("no longer in the note store" in r for r in report.remarks)
    assert any("no training patients" in r for r in report.remarks)


@pytest.mark.parametrize("option", ["MODEL", "--compare", "--reference"])
def test_missing_model_is_named_before_any_work(option, planted, tmp_path):
    words = [tmp_path / "no"] if option == "MODEL" else [planted.initial, option, tmp_path / "no"]
    done = run("audit", *words, "--site", planted.site.path)
    assert isinstance(done.exception, UsageError)
    assert "holds no model" in done.exception.message


def test_model_beside_itself_is_refused(planted):
    done = run("audit", planted.initial, "--compare", planted.initial, "--site", planted.site.path)
    assert "beside itself" in str(done.exception)


def test_site_without_notes_and_folder_without_a_site_are_refused(tmp_path, model_folder):
    from site_client.folder import SiteConfig, SiteFolder

    SiteFolder.create(tmp_path / "empty", SiteConfig(name="Empty", number=1))
    assert "no notes" in str(run("audit", model_folder, "--site", tmp_path / "empty").exception)
    assert "no site folder" in str(run("audit", model_folder, "--site", tmp_path / "nothing").exception)


def test_plant_command_says_what_it_costs_and_plants_once(patients):
    words = ["plant", "--canaries", 20, "--repeats", 2, "--site", patients.path]
    trial = run(*words, "--dry-run")
    assert "would be planted: about 20 invented notes among 24 training notes" in trial.stdout
    done = run(*words)
    assert "are planted" in done.stdout
    assert "cannot be told apart" in " ".join(done.stdout.split())
    assert "cost the model a little" in done.stdout
    assert isinstance(run(*words).exception, UsageError)


def test_plant_command_prints_json(patients):
    done = run("plant", "--canaries", 20, "--site", patients.path, "--json")
    assert json.loads(done.stdout)["canaries"] == 20


def test_unreadable_planted_strings_are_refused(patients, model_folder, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    for name, message in (("missing.txt", "cannot be read"), ("empty.txt", "no planted string")):
        done = run("audit", model_folder, "--site", patients.path, "--planted", tmp_path / name)
        assert message in str(done.exception)


def test_damaged_or_missing_report_is_told(tmp_path):
    with pytest.raises(UsageError, match="no audit"):
        read_report(tmp_path)
