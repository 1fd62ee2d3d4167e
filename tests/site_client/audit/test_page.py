"""The page: what it says in plain words, that nothing in it can act, and how a real browser draws it."""

import re
import stat
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from site_client.audit.page import render_page, write_page
from site_client.audit.report import (
    AuditReport,
    CorpusFacts,
    ExposureFacts,
    ExtractionFacts,
    ExtractionRow,
    MembershipFacts,
    ModelAudit,
    OneRunFacts,
    Spread,
    UpperBound,
)

sys.path.insert(0, str(Path(__file__).parents[2]))
from browser import Page

HOSTILE = "<script>alert(1)</script>\x00\u202e$x^{2$ &"
LONG = "checkpoint-of-the-twenty-third-of-november-with-everything-that-was-tried-so-far-and-more"


def spread(count: int, median: float, histogram: tuple[int, ...]) -> Spread:
    return Spread(count=count, mean=median + 0.4, median=median, max=float(len(histogram)), histogram=histogram)


def one(name: str, *, lower: float, claim: UpperBound | None, power: float) -> ModelAudit:
    """A model; ``power`` from 0 (remembers nothing) to 1."""
    known = (64, 31, 17, 8, 4, 2, 1, 0, 1, 0) if power < 0.5 else (2, 1, 4, 6, 9, 11, 14, 21, 24, 36)
    rows = [
        ExtractionRow(what=what, known=n, tried=128, extracted=round(share * 128 * n / 4))
        for what, share in (("included", power), ("left_out", 0.0))
        for n in (1, 2, 4)
    ]
    rows += [ExtractionRow(what="planted", known=n, tried=40, extracted=round(power * n / 2)) for n in (10, 50)]
    curve = tuple(min(1.0, (i / 100) ** (1 - 0.7 * power)) for i in range(101))
    return ModelAudit(
        name=name,
        parameters=123_328,
        upper_bound=claim,
        one_run=OneRunFacts(
            canaries=256,
            guesses=128,
            correct=round(64 + 60 * power),
            confidence=0.95,
            delta=1e-5,
            patient_level_lower_bound=lower,
            patient_level_ceiling=3.74,
        ),
        exposure=ExposureFacts(
            alternatives=1023,
            ceiling=10.0,
            chance=1.44,
            included=spread(128, 1.0 if power < 0.5 else 7.6, known),
            left_out=spread(128, 1.0, (66, 30, 16, 8, 4, 2, 1, 1, 0, 0)),
        ),
        extraction=ExtractionFacts(rows=tuple(rows), samples=200, sampled_secrets=round(9 * power)),
        membership=MembershipFacts(
            training_patients=200,
            held_out_patients=180,
            notes_per_patient=4,
            reference=True,
            auc=0.5 + 0.3 * power,
            auc_low=0.45 + 0.3 * power,
            auc_high=0.55 + 0.3 * power,
            tpr_at_1=curve[1],
            tpr_at_10=curve[10],
            roc=curve,
        ),
    )


def report_of(*models: ModelAudit, remarks: tuple[str, ...] = ()) -> AuditReport:
    return AuditReport(
        created="2026-11-25T02:00:00+00:00",
        min_patients=11,
        canaries=256,
        repeats=2,
        reference="initial",
        models=models,
        corpus=CorpusFacts(
            rephrasings=1200,
            canaries_rephrased=128,
            secrets_surviving=17,
            left_out_surviving=0,
            planted=40,
            planted_surviving=3,
        ),
        remarks=remarks,
    )


def claim(value: float, unit: str = "patient") -> UpperBound:
    return UpperBound.model_validate({"unit": unit, "value": value, "delta": 1e-5})


PRIVATE = one("private", lower=0.0, claim=claim(7.94), power=0.05)
PLAIN = one("plain", lower=2.71, claim=None, power=0.9)
BARE = ModelAudit(name="bare", parameters=10)
CASES = {
    "with and without privacy": report_of(PRIVATE, PLAIN, remarks=("A remark of some length. " * 6,)),
    "one model": report_of(PLAIN),
    "refuted": report_of(one("faulty", lower=2.71, claim=claim(1.2), power=0.9)),
    "large claim": report_of(one("weak", lower=0.3, claim=claim(48.5), power=0.2), PLAIN),
    "small claim": report_of(one("strong", lower=0.0, claim=claim(0.4), power=0.0), PLAIN),
    "long and hostile names": report_of(
        PRIVATE.model_copy(update={"name": HOSTILE}), PLAIN.model_copy(update={"name": LONG})
    ),
    "nothing measured": report_of(BARE, remarks=("No canary patients were planted.",)).model_copy(
        update={"corpus": None, "canaries": 0, "reference": None}
    ),
}


class Elements(HTMLParser):
    """Tags, ids and references as a browser's parser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"src", "href", "xlink:href", "action", "data", "poster", "srcset"}:
                self.references.append(value or "")


@pytest.mark.parametrize("case", CASES)
def test_nothing_in_the_page_can_act_or_leave_it(case):
    page = render_page(CASES[case], f"St. {HOSTILE}")
    elements = Elements(page)
    assert {"script", "img", "iframe", "object", "form"}.isdisjoint(elements.tags)
    assert elements.tags.count("style") == 1
    assert len(elements.ids) == len(set(elements.ids))
    assert set(elements.references) - {"data:,"} <= {f"#{name}" for name in elements.ids}
    assert "default-src 'none'" in page
    assert "http:" not in page and "https:" not in page
    assert page == render_page(CASES[case], f"St. {HOSTILE}")


def words_of(report: AuditReport) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", render_page(report, "St. Anna")).replace("&#39;", "'"))


def test_comparison_shows_both_models_in_every_picture_and_table():
    page = render_page(CASES["with and without privacy"], "St. Anna")
    labels = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', page)
    assert len(labels) == 3
    assert all("private" in label and "plain" in label for label in labels)
    tables = re.findall(r"<table.*?</table>", page, re.S)
    assert len(tables) == 5
    assert all("private" in table and "plain" in table for table in tables[:4])
    assert "plain remembers training patients; no trace of that was found in private." not in page  # 6 of 128 came out


def test_upper_bound_is_shown_with_its_unit_or_plainly_missing():
    said = words_of(CASES["with and without privacy"])
    assert "The accountant vouches for ε = 7.94 at δ = 1e-05 for one patient, at most." in said
    assert "There is no guarantee" in said
    assert "no guarantee" in said


def test_refuted_claim_is_the_first_thing_to_read():
    page = render_page(CASES["refuted"], "St. Anna")
    assert '<p class="lead grave" role="note">The audit refutes the privacy claim of faulty: do not release.' in page
    assert "REFUTES" in page


def test_clean_audit_is_called_no_proof():
    clean = report_of(one("private", lower=0.0, claim=claim(7.94), power=0.0))
    clean = clean.model_copy(update={"models": (clean.models[0].model_copy(update={"extraction": None}),)})
    assert "No trace of training patients was found in private. That is no proof." in words_of(clean)


def test_audit_that_measured_nothing_says_so():
    page = render_page(CASES["nothing measured"], "St. Anna")
    assert "Nothing could be measured" in page
    assert "No canary patients were planted." in page
    assert "<svg" not in page and "<table" not in page


def test_every_part_says_what_it_does_not_prove():
    page = render_page(CASES["one model"], "St. Anna")
    assert page.count("What it does not prove.") == page.count("<section") == 5


def test_page_is_for_its_owner_alone(tmp_path):
    write_page(CASES["one model"], tmp_path / "audit.html", "St. Anna")
    assert stat.S_IMODE((tmp_path / "audit.html").stat().st_mode) == 0o600


MEASURE = """
[...document.querySelectorAll('svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')];
  const inside = texts.map(t => [t.textContent, t.getBoundingClientRect()]);
  const cut = inside.filter(([, r]) => r.left < box.left - 2 || r.right > box.right + 2
                                    || r.top < box.top - 2 || r.bottom > box.bottom + 2).map(([t]) => t);
  const overlaps = [];
  texts.forEach((a, i) => texts.slice(i + 1).forEach(b => {
    const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
    const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (across > 1 && down > 0.3 * Math.min(p.height, q.height)) overlaps.push([a.textContent, b.textContent]);
  }));
  return {label: svg.getAttribute('aria-label'), width: box.width, height: box.height, cut, overlaps};
})
"""


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_browser_draws_every_picture_without_network_noise_or_overlap(case, tmp_path):
    path = tmp_path / "audit.html"
    write_page(CASES[case], path, "St. Anna")
    with Page(path.as_uri(), width=1280) as page:
        pictures = page.evaluate(MEASURE)
        assert len(pictures) == (0 if case == "nothing measured" else 3)
        for picture in pictures:
            assert picture["width"] > 300, picture["label"]
            assert picture["height"] > 100, picture["label"]
            assert not picture["cut"], picture["label"]
            assert not picture["overlaps"], picture["label"]
        assert page.requests == [path.as_uri()]
        assert page.messages == []
        assert page.evaluate("document.scripts.length") == 0
        page.resize(390)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
