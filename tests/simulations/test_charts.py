from xml.etree import ElementTree

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from simulations.chart_evaluation import evaluation_chart, evaluation_sets
from simulations.chart_headline import headline_chart, main_corpus, relative
from simulations.chart_training import loss_chart, rounds_chart
from simulations.results import Arm, Corpus, GateFacts, Interval, Results, WireFacts
from site_client.show.charts import count, duration, percent, picture, plural, short_names, size, tidy


def run_of(*arms: Arm) -> Results:
    return Results(
        fednotes_version="0.1.0",
        scenario="test",
        created="2026-01-01T00:00:00Z",
        seed=1,
        model="tiny",
        parameters=10,
        arms=list(arms),
        sites=[],
        dropped={},
        gates=GateFacts(engine="rules", judged=0, accepted=0, rejected={}, by_site={}),
        wire=WireFacts(bytes_up_per_round=0, bytes_down_per_round=0),
        timing_seconds={},
    )


def arm(name: str, corpus: Corpus = "real", curve: list[tuple[int, float]] | None = None, **values: float) -> Arm:
    scores = {key: Interval(value=v, ci_low=v - 0.1, ci_high=v + 0.1) for key, v in values.items()}
    return Arm(
        name=name,
        corpus=corpus,
        bits_per_byte=scores,
        train_tokens=1,
        corpus_tokens=1,
        seconds=1.0,
        loss_curve=curve or [],
    )


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def drawn(label: str) -> str:
    def draw(figure: Figure) -> None:
        figure.subplots().set_yticks([0, 1], [label, "other"])

    return picture("a-key", title="T", label=label, conclusion="C", size=(300, 200), draw=draw).svg


@settings(max_examples=25, deadline=None)  # each example is one drawing
@given(st.text(min_size=1).map(tidy))
def test_any_name_survives_in_the_svg_as_text(name):
    svg = drawn(name)
    assert name in texts(svg)
    assert ElementTree.fromstring(svg).get("aria-label") == name


def test_ids_carry_the_key_of_their_picture():
    ids = [e.get("id") for e in ElementTree.fromstring(drawn("x")).iter() if e.get("id")]
    assert ids
    assert all(name.startswith("a-key-") for name in ids)


def test_svg_holds_no_style_element_no_font_and_no_address():
    svg = drawn("x")
    assert "<style" not in svg
    assert "font-family" not in svg
    assert "http" not in svg


def test_drawing_leaves_the_callers_matplotlib_settings_alone():
    before = dict(matplotlib.rcParams)
    drawn("x")
    assert dict(matplotlib.rcParams) == before


@given(st.lists(st.text(), max_size=30), st.integers(8, 40))
def test_short_names_are_distinct_and_short(names, limit):
    shortened = short_names(names, limit)
    assert len(set(shortened.values())) == len(set(names))
    assert all(len(label) <= limit + len(" (30)") for label in shortened.values())


def test_long_names_keep_both_ends():
    assert short_names(["Harbour View Medical Center, Building 7"], 20) == {
        "Harbour View Medical Center, Building 7": "Harbour Vie…ilding 7"
    }


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (count(950), "950"),
        (count(12_400), "12,400"),
        (count(3_250_000), "3.25 million"),
        (plural(1, "patient"), "1 patient"),
        (plural(0, "patient"), "0 patients"),
        (size(830), "830 B"),
        (size(4_200_000), "4.2 MB"),
        (duration(0.42), "0.4 s"),
        (duration(59.7), "1 min 00 s"),
        (duration(200), "3 min 20 s"),
        (duration(7_500), "2 h 05 min"),
        (percent(1, 250), "0.4 %"),
        (percent(87, 100), "87 %"),
        (percent(1, 0), "-"),
        (relative(2.0, 2.0), "as much as"),
        (relative(2.1, 2.0), "5.0 % more than"),
        (relative(1.9, 2.0), "5.0 % less than"),
    ],
)
def test_numbers_are_written_for_people(written, expected):
    assert written == expected


def test_headline_corpus_is_the_one_with_most_to_compare():
    results = run_of(arm("federated", "real+synthetic", all=2.0), arm("federated", all=2.1), arm("pooled", all=2.0))
    assert main_corpus(results) == "real"


def test_headline_chart_writes_every_value_and_survives_an_interval_beside_its_value():
    odd = arm("pooled", all=2.5)
    odd = odd.model_copy(update={"bits_per_byte": {"all": Interval(value=2.5, ci_low=2.6, ci_high=2.7)}})
    chart = headline_chart(run_of(arm("federated", all=2.4), odd))
    assert chart is not None
    assert {"2.400", "2.500", "Federated", "Pooled"} <= set(texts(chart.svg))
    assert "Lowest of all is the federated model" in chart.conclusion


def test_values_that_are_not_finite_are_left_out():
    broken = arm("pooled", curve=[(1, float("nan"))], all=float("nan"))
    assert headline_chart(run_of(broken)) is None
    assert evaluation_chart(run_of(broken)) is None
    assert loss_chart(run_of(broken)) is None
    assert rounds_chart(run_of(broken)) is None


def test_evaluation_chart_counts_where_the_federated_model_is_best():
    results = run_of(arm("federated", all=2.0, extra=3.3), arm("pooled", all=2.2, extra=3.0))
    chart = evaluation_chart(results)
    assert chart is not None
    assert evaluation_sets(results) == ["all", "extra"]
    assert chart.conclusion == "A federated model is best on 1 of 2 evaluation sets."


def test_evaluation_chart_says_when_no_federated_model_is_shown():
    chart = evaluation_chart(run_of(arm("pooled", all=2.2)))
    assert chart is not None
    assert chart.conclusion == "No federated model is among them."


def test_long_loss_curves_are_averaged_to_few_points():
    curve = [(step, 5.0 - step / 10_000) for step in range(10_000)]
    chart = loss_chart(run_of(arm("pooled", curve=curve)))
    assert chart is not None
    assert len(chart.svg) < 40_000
    assert "fell for 1 of 1 model" in chart.conclusion


def test_equal_drawings_are_equal_bytes():
    assert drawn("x") == drawn("x")
