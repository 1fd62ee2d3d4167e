import math
import os
import re
import stat
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from protocols.errors import WorkError
from simulations.chart_headline import details, headline
from simulations.report import render_report, write_report
from simulations.results import (
    Arm,
    Corpus,
    GateFacts,
    Interval,
    PrivacyFacts,
    Results,
    RoundFacts,
    SiteFacts,
    WireFacts,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import Page

HOSPITALS = ("St. Anna Children's", "Northfield General", "Riverside", "Harbour View Medical Center", "Mount Clare")
HOSTILE = "<script>alert(1)</script>"
TYPES = ("Discharge summary", "Progress note", "Radiology", "Nursing", "Consult", "ECG", "Operative report")


def interval(value: float) -> Interval:
    return Interval(value=value, ci_low=value * 0.985, ci_high=value * 1.017)


def curve(end: float) -> list[tuple[int, float]]:
    return [(t * 25_000, end + 4.2 * math.exp(-t / 24) + 0.08 * math.sin(t * 1.7)) for t in range(1, 161)]


def rounds_of(names: tuple[str, ...], number: int, end: float) -> list[RoundFacts]:
    facts = []
    for n in range(1, number + 1):
        level = end + 3.4 * math.exp(-n / 1.2)
        by_site = {name: level * (0.94 + 0.12 * i / max(1, len(names) - 1)) for i, name in enumerate(names)}
        facts.append(
            RoundFacts(
                round=n,
                train_loss=level,
                bits_per_byte=by_site | {"all": level},
                refused={names[-1]: "NORM_BOUND"} if n == 2 else {},
                bytes_up=1_240_000 * len(names),
                bytes_down=(1_310_000 if n > 1 else 5_200_000) * len(names),
                seconds=14.2,
            )
        )
    return facts


def arm(name: str, corpus: Corpus, value: float, sets: tuple[str, ...], rounds: list[RoundFacts]) -> Arm:
    scores = {s: interval(value * (1 + 0.03 * math.sin(3 * i))) for i, s in enumerate(sets, start=1)}
    home = name.removeprefix("site:")
    if home in scores:
        scores[home] = interval(value * 0.96)
    return Arm(
        name=name,
        corpus=corpus,
        bits_per_byte=scores | {"all": interval(value)},
        train_tokens=4_000_000,
        corpus_tokens=612_000,
        seconds=71.5,
        loss_curve=[(n * 1_000_000, r.train_loss) for n, r in enumerate(rounds, start=1)] or curve(value),
        rounds=rounds,
    )


def sample_results(
    names: tuple[str, ...] = HOSPITALS, number: int = 4, extra: tuple[str, ...] = ("mtsamples",)
) -> Results:
    """A run as `fednotes simulate` would report it, with every picture filled."""
    sets = (*names, *extra)
    arms = [
        arm("federated", "real", 2.402, sets, rounds_of(names, number, 2.4)),
        arm("federated", "real+synthetic", 2.311, sets, rounds_of(names, number, 2.3)),
        arm("federated", "real-repeated", 2.377, sets, rounds_of(names, number, 2.37)),
        arm("pooled", "real", 2.352, sets, []),
        arm("pooled", "real+synthetic", 2.252, sets, []),
        *(arm(f"site:{n}", "real+synthetic", 2.521 + 0.06 * i, sets, []) for i, n in enumerate(names)),
    ]
    sites = [
        SiteFacts(
            name=name,
            notes={"train": 812 + 97 * i, "validation": 90 + i, "test": 101 + i},
            patients={"train": 190 + 20 * i, "validation": 20, "test": 24},
            note_types={kind: 40 + 60 * ((i + k) % 4) for k, kind in enumerate(TYPES)},
            real_tokens=160_000 + 42_000 * (i % 7),
            synthetic_tokens=131_000 + 30_000 * (i % 5),
            dropped={"empty": 3 + i, "too_short": 14, "duplicate": 22},
        )
        for i, name in enumerate(names)
    ]
    return Results(
        fednotes_version="0.1.0",
        scenario="five-hospitals",
        created="2026-11-20T17:00:00Z",
        seed=7,
        model="tiny",
        parameters=3_412_480,
        arms=arms,
        sites=sites,
        dropped={"no_text": 12, "duplicate": 5},
        gates=GateFacts(
            engine="rules",
            judged=12_480,
            accepted=10_911,
            rejected={"too_similar": 822, "lost_number": 431, "too_short": 208, "new_entity": 108, "repetition": 0},
            by_site={name: {"judged": 2_496, "accepted": 2_100 + 20 * (i % 9)} for i, name in enumerate(names)},
        ),
        wire=WireFacts(bytes_up_per_round=6_200_000, bytes_down_per_round=11_400_000),
        timing_seconds={"ingest": 3.2, "rephrase": 41.7, "tokenizer": 5.1, "training": 702.4, "evaluation": 88.0},
    )


def only(results: Results, **changes: object) -> Results:
    return Results.model_validate(results.model_dump() | changes)


class Elements(HTMLParser):
    """Collects tags, ids and references the way a browser's parser would see them."""

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


def test_equal_results_give_an_equal_page():
    assert render_report(sample_results()) == render_report(sample_results())


def test_demo_page_stays_under_two_megabytes():
    assert len(render_report(sample_results()).encode()) < 2_000_000


def test_every_id_is_unique_and_every_reference_stays_on_the_page():
    elements = Elements(render_report(sample_results()))
    assert len(elements.ids) == len(set(elements.ids))
    inside = {f"#{name}" for name in elements.ids}
    assert set(elements.references) - {"data:,"} <= inside
    page = render_report(sample_results())
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(elements.ids)


def test_all_ten_pictures_are_drawn_and_labelled():
    page = render_report(sample_results())
    labels = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', page)
    assert len(labels) == 10
    assert all(label.endswith(".") and len(label) > 20 for label in labels)


def test_hostile_names_stay_text_in_html_and_svg():
    hostile = (HOSTILE, '"><img src=x onerror=alert(1)>', "$x^{2$ & \x00\u202e", "</svg><style>*{display:none}</style>")
    elements = Elements(render_report(sample_results(hostile, extra=(f"set {HOSTILE}",))))
    assert {"script", "img", "iframe", "object"}.isdisjoint(elements.tags)
    assert elements.tags.count("style") == 1


def test_headline_compares_with_pooled_and_best_hospital():
    assert headline(sample_results()) == [
        "The federated model needs 2.311 bits per byte: 2.6 % more than pooled training (2.252) and 8.3 % less than "
        "the best single hospital (St. Anna Children's, 2.521)."
    ]


def test_headline_says_so_when_a_single_hospital_is_better():
    results = sample_results(("A", "B"))
    arms = [a for a in results.arms if a.name in ("federated",)] + [arm("site:A", "real", 2.0, ("A",), [])]
    sentence = headline(only(results, arms=arms))[0]
    assert sentence.startswith("The federated model needs 2.402 bits per byte: 20.1 % more than the only single")


def test_headline_names_missing_arms():
    results = sample_results()
    federated = [a for a in results.arms if a.name == "federated" and a.corpus == "real"]
    assert headline(only(results, arms=federated)) == [
        "The federated model needs 2.402 bits per byte.",
        "There is no pooled model to compare it with.",
        "There is no single-hospital model to compare it with.",
    ]
    pooled = [a for a in results.arms if a.name == "pooled"]
    assert headline(only(results, arms=pooled)) == [
        "No federated model was measured in this run, so there is nothing to compare.",
        "The best model that was measured is pooled training on real and rephrased notes: 2.252 bits per byte.",
    ]


def test_overlapping_intervals_are_called_possible_chance():
    close = sample_results()
    assert "overlaps that of pooled training" in details(close)[0]
    clear = only(close, arms=[a for a in close.arms if a.name != "pooled"])
    assert details(clear)[0].startswith("Its 95 % interval is clear of")


def test_rephrasing_is_compared_with_its_repeated_control():
    assert details(sample_results())[-1] == (
        "With rephrasings added, the federated model needs 3.8 % less than with real notes alone, and 2.8 % less than "
        "when the real notes are repeated instead (the control)."
    )


def test_rules_engine_is_called_no_language_model():
    assert "It is no language model" in render_report(sample_results())
    llm = only(sample_results(), gates=sample_results().gates.model_copy(update={"engine": "vllm"}))
    assert "It is no language model" not in render_report(llm)


def test_privacy_is_either_spent_or_plainly_absent():
    assert "No differential privacy was used" in render_report(sample_results())
    private = render_report(with_privacy(sample_results()))
    assert "patient-level ε = 7.94 for one model" in private
    assert "1e-06" in private
    assert "No differential privacy" not in private


def with_privacy(results: Results, unit: str = "patient", central: float | None = None) -> Results:
    """The same run with one more arm, under differential privacy."""
    name, names = f"{unit}_level_epsilon", [site.name for site in results.sites]
    rounds = [
        RoundFacts.model_validate(
            {
                **facts.model_dump(),
                "train_loss": None,
                "bits_per_byte": {},
                name: dict.fromkeys(names, 7.94 * facts.round / 4),
                "noise_multiplier": dict.fromkeys(names, 1.25),
                "site_level_epsilon": central and central * facts.round,
            }
        )
        for facts in rounds_of(tuple(names), 4, 2.5)
    ]
    private = arm("federated-dp", "real+synthetic", 2.842, tuple(names), [])
    private = private.model_copy(update={"loss_curve": [], "rounds": rounds})
    facts = PrivacyFacts.model_validate(
        {
            "unit": unit,
            "target_epsilon": 8.0,
            "delta": 1e-6,
            name: 7.94,
            "by_site": dict.fromkeys(names, 7.94),
            "noise_multiplier": dict.fromkeys(names, 1.25),
            "sampling_rate": 0.5,
            "max_records": 4,
            "max_grad_norm": 0.5,
            "steps": 16,
            "site_level_epsilon": central and central * 4,
            "site_level_delta": central and 1e-5,
        }
    )
    return only(results, arms=[*results.arms, private], privacy=facts)


def test_epsilon_is_shown_by_round_and_site_and_its_cost_beside_the_same_run_without():
    page = render_report(with_privacy(sample_results()))
    assert "Spent after each round, patient-level epsilon" in page
    for round_number in (1, 2, 3, 4):
        assert f"{7.94 * round_number / 4:.3f}" in page
    assert re.search(r"needs 23\.0\s% more bits per byte with differential privacy than without", page)
    assert "Federated, private" in page
    assert "Hospital-level" not in page and "hospital-level" not in page


def test_central_noise_has_a_column_of_its_own():
    page = render_report(with_privacy(sample_results(), central=3.5))
    assert "Hospital-level epsilon (central noise)" in page
    assert "14.000" in page
    assert "the two numbers cannot be added" in page


@pytest.mark.parametrize("unit", ["note", "record"])
def test_a_weaker_unit_is_named_wherever_a_number_stands(unit):
    page = render_report(with_privacy(sample_results(), unit=unit))
    assert f"{unit}-level ε = 7.94" in page
    assert "protected" in page and "less" in page
    assert "patient-level epsilon" not in page


def test_refused_replies_and_dropped_records_are_listed():
    page = render_report(sample_results())
    assert "NORM_BOUND" in page
    assert re.search(
        "".join([r'<th scope="row">total</th>', *(f"<td[^>]*>{n}</td>" for n in (115, 25, 12, 70, 222))]), page
    )


def test_empty_run_still_gives_a_page():
    empty = only(
        sample_results(),
        arms=[],
        sites=[],
        dropped={},
        timing_seconds={},
        gates=GateFacts(engine="rules", judged=0, accepted=0, rejected={}, by_site={}),
    )
    page = render_report(empty)
    assert "No federated model was measured" in page
    assert "No federated round was run." in page
    assert "<svg" not in page


def test_failed_write_leaves_the_old_page_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(WorkError, match="No space left on device"):
        write_report(sample_results(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


MEASURE = """
[...document.querySelectorAll('svg')].map(svg => {
  const box = svg.getBoundingClientRect(), frame = svg.parentElement.getBoundingClientRect();
  const inside = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  const cut = inside.filter(([, r]) => r.left < box.left - 2 || r.right > box.right + 2
                                    || r.top < box.top - 2 || r.bottom > box.bottom + 2).map(([t]) => t);
  const upright = [...svg.querySelectorAll('text')].filter(t => !/rotate\\(-[1-9]/.test(t.getAttribute('transform')));
  const overlaps = [];
  upright.forEach((a, i) => upright.slice(i + 1).forEach(b => {
    const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
    const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (across > 1 && down > 0.3 * Math.min(p.height, q.height)) overlaps.push([a.textContent, b.textContent]);
  }));
  return {label: svg.getAttribute('aria-label'), width: box.width, height: box.height, cut, overlaps};
})
"""

LONG = tuple(f"The Royal and Ancient Infirmary of Saint Bartholomew upon the Hill, Campus {i}" for i in range(64))
BROWSER_CASES = {
    "demo": sample_results(),
    "hostile names": sample_results((HOSTILE, "B & <b>C</b>", "病院 $x$"), extra=(f"set {HOSTILE}",)),
    "one hospital": sample_results(("Only",), number=1, extra=()),
    "many hospitals": only(sample_results(LONG, number=40), arms=sample_results(LONG, number=40).arms[:40]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BROWSER_CASES)
def test_browser_draws_every_picture_without_network_noise_or_overlap(case, tmp_path):
    path = tmp_path / "report.html"
    write_report(BROWSER_CASES[case], path)
    with Page(path.as_uri(), width=1280) as page:
        pictures = page.evaluate(MEASURE)
        assert len(pictures) == 10
        for picture in pictures:
            assert picture["width"] > 300, picture["label"]
            assert picture["height"] > 60, picture["label"]
            assert not picture["cut"], picture["label"]
            assert not picture["overlaps"], picture["label"]
        assert page.requests == [path.as_uri()]
        assert page.messages == []
        assert page.evaluate("document.scripts.length") == 0


@pytest.mark.slow
@pytest.mark.parametrize("case", BROWSER_CASES)
def test_phone_page_never_scrolls_sideways(case, tmp_path):
    path = tmp_path / "report.html"
    write_report(BROWSER_CASES[case], path)
    with Page(path.as_uri(), width=390) as page:
        assert page.evaluate("innerWidth") == 390
        assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.slow
def test_print_leaves_navigation_out_and_splits_no_figure(tmp_path):
    path, printed = tmp_path / "report.html", tmp_path / "report.pdf"
    write_report(sample_results(), path)
    with Page(path.as_uri(), width=1280) as page:
        page.pdf(printed)
        page.call("Emulation.setEmulatedMedia", media="print")
        assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        figures = "[...document.querySelectorAll('figure')].map(f => getComputedStyle(f).breakInside)"
        assert set(page.evaluate(figures)) == {"avoid"}
    assert printed.read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_browser_helper_notices_a_request_and_a_console_message(tmp_path):
    path = tmp_path / "noisy.html"
    path.write_text("<!doctype html><img src='missing.png'><script>console.warn('hello')</script>")
    with Page(path.as_uri(), width=800) as page:
        assert page.requests == [path.as_uri(), (tmp_path / "missing.png").as_uri()]
        assert any("hello" in message for message in page.messages)


def test_page_is_for_its_owner_alone_as_it_names_hospitals(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    path.chmod(0o644)
    write_report(sample_results(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text(encoding="utf-8") == render_report(sample_results())


def test_curve_over_hospitals_is_said_to_cover_those_that_reported():
    page = render_report(sample_results())
    assert "bits per byte on the validation notes of all hospitals that reported" in page
    assert "a line per hospital that reported and one over all of them" in page
