"""The report page of a simulation: one HTML file that needs no network, no script and no server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from protocols.durable import whole_file
from simulations.chart_corpus import acceptance_chart, gates_chart, note_types_chart, tokens_chart
from simulations.chart_evaluation import evaluation_chart
from simulations.chart_headline import (
    CORPUS_NAMES,
    arm_name,
    by_corpus,
    details,
    headline,
    headline_chart,
    headline_set,
    kind,
    main_corpus,
    score,
)
from simulations.chart_privacy import cost_chart, epsilon_chart, private_arm, spent
from simulations.chart_training import loss_chart, rounds_chart, time_chart, wire_chart
from simulations.results import PrivacyFacts, Results
from site_client.show.charts import Picture, count, duration, plural, tidy, words

_ENGINES = {
    "rules": "a deterministic rewriter that follows fixed rules. It is no language model: what it adds to the corpus "
    "says nothing about what an LLM would add",
    "vllm": "a language model, run by vLLM in the same process",
    "openai": "a language model behind an OpenAI-compatible endpoint",
}
_UNITS = {
    "patient": "all notes and rephrasings of a patient, in every round, count as one.",
    "note": "a note and its rephrasings count as one. A patient with many notes is protected less.",
    "record": "each packed row counts alone. A patient with many rows is protected far less.",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the page; the first cell of a row is its heading.

    Attributes:
        caption: what the table shows.
        columns: headings.
        rows: cells as text.
        text_columns: so many columns from the left hold text; the others hold numbers, set flush right.
    """

    caption: str
    columns: list[str]
    rows: list[list[str]]
    text_columns: int = 1


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page.

    Attributes:
        key: anchor.
        title: heading, also in the navigation.
        texts: plain sentences in front of the pictures.
        pictures: drawn in this order.
        tables: behind the pictures.
    """

    key: str
    title: str
    texts: list[str]
    pictures: list[Picture]
    tables: list[Table]


def write_report(results: Results, path: Path) -> None:
    """Write the report page; a reader of ``path`` sees the old page or the whole new one, never a part.

    Args:
        results: what the simulation found. Names in it may hold anything; they are escaped.
        path: the HTML file to write or replace; for its owner alone, as it names hospitals and note types.

    Raises:
        WorkError: ``path`` cannot be written.
    """
    page = render_report(results).encode("utf-8", errors="replace")  # a name may hold what is no UTF-8
    with whole_file(path) as partial:
        partial.write_bytes(page)


def render_report(results: Results) -> str:
    """Return the report page as HTML; equal results give an equal page."""
    environment = Environment(
        loader=PackageLoader("simulations", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["glue"] = _glue
    return environment.get_template("report.html.j2").render(
        results=results,
        headline=headline(results),
        details=details(results),
        trained_on=CORPUS_NAMES[corpus] if (corpus := main_corpus(results)) else None,
        facts=_facts(results),
        sections=_sections(results),
    )


def _glue(text: str) -> str:
    """Keep a number and its percent sign on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _facts(results: Results) -> list[tuple[str, str]]:
    patients = sum(sum(site.patients.values()) for site in results.sites)
    notes = sum(sum(site.notes.values()) for site in results.sites)
    tokens = sorted({arm.train_tokens for arm in results.arms})
    return [
        ("Hospitals", count(len(results.sites))),
        ("Patients", count(patients)),
        ("Notes", count(notes)),
        ("Model", f"{tidy(results.model)}, {count(results.parameters)} weights"),
        ("Training tokens per model", " to ".join(dict.fromkeys(count(t) for t in (tokens[:1] + tokens[-1:]))) or "-"),
        ("Rephrasing engine", tidy(results.gates.engine)),
        ("Differential privacy", _privacy_in_short(results.privacy)),
    ]


def _privacy_in_short(privacy: PrivacyFacts | None) -> str:
    if privacy is None:
        return "no"
    return f"{privacy.unit}-level ε = {spent(privacy):.2f} for one model"


def _sections(results: Results) -> list[Section]:
    sections = [
        _section("arms", "Models", [], [headline_chart(results), evaluation_chart(results)], [_arms_table(results)]),
        _section("training", "Training", [], [loss_chart(results)], []),
        _section("rounds", "Rounds", _rounds_texts(results), [rounds_chart(results)], _refusals(results)),
        _section("corpus", "Corpus", [], [tokens_chart(results), note_types_chart(results)], _corpus_tables(results)),
        _section(
            "rephrasing",
            "Rephrasing",
            [f"Engine: {_engine(results)}."],
            [
                gates_chart(results),
                acceptance_chart(results.gates.by_site, "hospital"),
                acceptance_chart(results.gates.by_arm, "arm"),
            ],
            [],
        ),
        _section("cost", "Cost", [], [wire_chart(results), time_chart(results)], []),
        _section("privacy", "Privacy", *_privacy(results)),
    ]
    return [section for section in sections if section.texts or section.pictures or section.tables]


def _section(
    key: str, title: str, texts: list[str], pictures: list[Picture | None], tables: list[Table | None]
) -> Section:
    """Build a section from the parts that there is something to show for."""
    return Section(key, title, texts, [p for p in pictures if p], [t for t in tables if t and t.rows])


def _engine(results: Results) -> str:
    name = results.gates.engine
    described = _ENGINES.get(name)
    return f"{tidy(name)}, {described}" if described else tidy(name)


def _arms_table(results: Results) -> Table:
    held_out = headline_set(results)
    rows = []
    for corpus, arms in by_corpus(results).items():
        for arm in arms:
            interval = score(arm, held_out)
            rows.append(
                [
                    arm_name(arm) if kind(arm) != "site" else f"{tidy(arm_name(arm))} alone",
                    CORPUS_NAMES[corpus],
                    f"{interval.value:.4f}" if interval else "-",
                    f"{interval.ci_low:.4f} to {interval.ci_high:.4f}" if interval else "-",
                    f"{arm.train_tokens:,}",
                    f"{arm.corpus_tokens:,}",
                    duration(arm.seconds),
                ]
            )
    columns = ["Model", "Trained on", "Bits per byte", "95 % interval", "Training tokens", "Corpus tokens", "Time"]
    return Table(f"Every model on the held-out set “{tidy(held_out)}”", columns, rows, text_columns=2)


def _rounds_texts(results: Results) -> list[str]:
    federated = [arm for arm in results.arms if arm.rounds]
    if not federated:
        return ["No federated round was run."]
    refused = sum(len(facts.refused) for arm in federated for facts in arm.rounds)
    rounds = sum(len(arm.rounds) for arm in federated)
    of_models = f" of {len(federated)} federated models" if len(federated) > 1 else ""
    replies = f"{count(refused)} {'reply' if refused == 1 else 'replies'}"
    were = "was" if refused < 2 else "were"
    return [f"{plural(rounds, 'round')}{of_models} in all; {replies if refused else 'no reply'} {were} refused."]


def _refusals(results: Results) -> list[Table | None]:
    rows = [
        [tidy(site), str(facts.round), CORPUS_NAMES[arm.corpus], tidy(code)]
        for arms in by_corpus(results).values()
        for arm in arms
        for facts in arm.rounds
        for site, code in sorted(facts.refused.items())
    ]
    return [Table("Refused replies", ["Hospital", "Round", "Trained on", "Reason"], rows, text_columns=4)]


def _corpus_tables(results: Results) -> list[Table | None]:
    splits = list(dict.fromkeys(split for site in results.sites for split in site.notes))
    sites = [
        [
            tidy(site.name),
            *(f"{site.notes.get(split, 0):,} / {site.patients.get(split, 0):,}" for split in splits),
            f"{site.real_tokens:,}",
            f"{site.synthetic_tokens:,}",
        ]
        for site in results.sites
    ]
    columns = [
        "Hospital",
        *(f"{words(split)} (notes / patients)" for split in splits),
        "Real tokens",
        "Rephrased tokens",
    ]
    where = {"before any hospital": results.dropped} | {tidy(site.name): site.dropped for site in results.sites}
    reasons = sorted({reason for dropped in where.values() for reason in dropped})
    rows = [[name, *(f"{d.get(r, 0):,}" for r in reasons), f"{sum(d.values()):,}"] for name, d in where.items()]
    totals = [sum(d.get(reason, 0) for d in where.values()) for reason in reasons]
    rows.append(["total", *(f"{number:,}" for number in totals), f"{sum(totals):,}"])
    dropped = Table("Records left out, by reason", ["Hospital", *map(words, reasons), "total"], rows)
    return [Table("Notes and tokens by hospital", columns, sites), dropped if reasons else None]


def _privacy(results: Results) -> tuple[list[str], list[Picture | None], list[Table | None]]:
    privacy = results.privacy
    if privacy is None:
        return ["No differential privacy was used in this run: a trained model may remember its notes."], [], []
    texts = [
        f"One federated model was trained under differential privacy. The unit is the {privacy.unit}: "
        + _UNITS[privacy.unit],
        "Epsilon bounds what anybody who sees all updates and the model can learn about one such unit at its hospital. "
        "The other models of this run were trained without, and may remember their notes.",
    ]
    if privacy.site_level_epsilon is not None:
        texts.append(
            "The coordinator added noise of its own. What that promises a hospital stands in a column apart: it is "
            "another promise, to other people, and the two numbers cannot be added or compared."
        )
    by_site = [
        [tidy(name), f"{value:.3f}", f"{privacy.noise_multiplier.get(name, float('nan')):.4g}"]
        for name, value in privacy.by_site.items()
    ]
    return (
        texts,
        [epsilon_chart(results), cost_chart(results)],
        [
            Table(
                f"Spent at each hospital, for one {privacy.unit}",
                ["Hospital", f"{privacy.unit}-level epsilon", "Noise multiplier"],
                by_site,
            ),
            _epsilon_by_round(results, privacy),
            Table("Settings", ["Quantity", "Value"], _privacy_settings(privacy)),
        ],
    )


def _epsilon_by_round(results: Results, privacy: PrivacyFacts) -> Table | None:
    arm = private_arm(results)
    if arm is None:
        return None
    sites = list(privacy.by_site)
    central = ["Hospital-level epsilon (central noise)"] if privacy.site_level_epsilon is not None else []
    rows = []
    for facts in arm.rounds:
        of_round = getattr(facts, f"{privacy.unit}_level_epsilon")
        row = [str(facts.round), *(f"{of_round[s]:.3f}" if s in of_round else "-" for s in sites)]
        rows.append([*row, f"{facts.site_level_epsilon:.3f}"] if central else row)
    return Table(f"Spent after each round, {privacy.unit}-level epsilon", ["Round", *map(tidy, sites), *central], rows)


def _privacy_settings(privacy: PrivacyFacts) -> list[list[str]]:
    settings = {
        "epsilon asked for": privacy.target_epsilon,
        "δ": privacy.delta,
        f"chance of a {privacy.unit} to enter a step": privacy.sampling_rate,
        "steps in all": privacy.steps,
        f"packed rows of a {privacy.unit} in a step, at most": privacy.max_records,
        f"bound on the gradient of a {privacy.unit}": privacy.max_grad_norm,
        "hospital-level epsilon (central noise)": privacy.site_level_epsilon,
        "hospital-level δ": privacy.site_level_delta,
    }
    return [[name, f"{value:.4g}"] for name, value in settings.items() if value is not None]
