"""Invented passages with right, wrong and hostile rephrasings, as examples and as a corpus on the disk."""

from __future__ import annotations

from pathlib import Path

from privacy.deidentify import clean
from privacy.note_types import Chunk, RawNote
from site_client.engines.engine import Sampling
from site_client.engines.rules import rewrite
from site_client.folder import SiteConfig, SiteFolder
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.corpus_folder import ArmRecord, CorpusFolder
from site_client.rephrasing.prompts import all_prompts
from site_client.rephrasing.results import Result
from site_client.rephrasing.selection import training_chunks
from site_client.show.example import ArmFacts, ArmTotal, Example, Rephrasing
from site_client.store import write_notes

KNEE = "Procedure: L knee arthroscopy. Complications: none. Given cefazolin 2 g IV q8h; pt denies pain. EBL 50 mL."
HOSTILE = (
    "<script>alert(1)</script> \x1b[31mred\x1b]0;title\x07 [bold]b[/bold] [link=http://a]x[/] {{ 7 * 7 }} &amp; "
    "\u202eabc\u2066 \x9b2J \ud800 :smile: <img src=http://a/b.png onerror=alert(1)> </style></div><!-- 5 mg"
)
LONG = "x" * 4000

RULES = ArmFacts(name="rules-1.plain", model="rules-1", engine="rules", prompt="plain", asked="plain English")
LARGE = ArmFacts(name="large.soap", model="large", engine="vllm", prompt="soap", asked="four parts")
EVIL = ArmFacts(name=HOSTILE, model=HOSTILE, engine=HOSTILE, prompt=HOSTILE, asked=HOSTILE)
TOTALS = [ArmTotal(arm=RULES, judged=1200, accepted=1100), ArmTotal(arm=LARGE, judged=3, accepted=0)]


def chunk(text: str, number: int = 0, header: str = "Note type: Operative report") -> Chunk:
    """A chunk of a note and a patient of its own."""
    note, patient = f"{number:08x}aa", f"{number:08x}bb"
    return Chunk(chunk_key=f"{note}-0", note_key=note, patient_key=patient, index=0, header=header, text=text)


def result(of: Chunk, text: str, *reasons: str, job: str = "00" * 32, finish_reason: str = "stop") -> Result:
    """What an arm made of a chunk."""
    return Result(
        job=job,
        chunk_key=of.chunk_key,
        note_key=of.note_key,
        patient_key=of.patient_key,
        text=text,
        finish_reason=finish_reason,
        prompt_tokens=40,
        output_tokens=len(text.split()),
        reasons=list(reasons),
    )


def examples() -> list[Example]:
    """Two ordinary passages."""
    knee, lungs = chunk(KNEE), chunk("CTA b/l. No wheeze. SpO2 97% on RA. Albuterol 2 puffs prn.", 1, "")
    wrong = "A right knee arthroscopy was done with complications. Cefazolin 20 g was given. The patient had pain."
    return [
        Example(
            knee,
            (
                Rephrasing(RULES, result(knee, rewrite(KNEE))),
                Rephrasing(LARGE, result(knee, wrong, "numbers", "negation", "laterality", "of_tomorrow")),
            ),
        ),
        Example(lungs, (Rephrasing(LARGE, result(lungs, "", "empty", finish_reason="length")),)),
    ]


def hostile_examples() -> list[Example]:
    """Everything that a text or a name may hold, in every place."""
    evil, long = chunk(HOSTILE, header=HOSTILE), chunk(LONG, 1, LONG)
    return [
        Example(
            evil,
            (
                Rephrasing(EVIL, result(evil, HOSTILE, finish_reason=HOSTILE)),
                Rephrasing(RULES, result(evil, "5 g " + HOSTILE[::-1], HOSTILE)),
            ),
        ),
        Example(long, (Rephrasing(RULES, result(long, "y" * 4000)),)),
    ]


def corpus(root: Path, verdicts: dict[str, list[list[str]]], *, chunks_a_patient: int = 1) -> CorpusFolder:
    """A site whose arms, named by their prompts, rephrased note after note with the given verdicts.

    Args:
        root: of the site folder.
        verdicts: reasons by note, for every prompt.
        chunks_a_patient: so many notes belong to one patient.
    """
    folder = SiteFolder.create(root, SiteConfig(name="Hospital", number=1), pseudonym_key=b"k" * 32)
    count = max((len(v) for v in verdicts.values()), default=1)
    raw = [
        RawNote(
            text=f"Visit {i}. Denies pain. Lisinopril {i} mg daily.",
            note_id=str(i),
            patient_id=str(i // chunks_a_patient),
            note_type="Progress note",
            source="export.csv",
            position=i + 1,
        )
        for i in range(count)
    ]
    notes = [clean(note, folder.pseudonym_key()) for note in raw]
    write_notes(folder.notes, notes, {n.patient_key: "train" for n in notes})
    made = CorpusFolder(folder)
    chunks = list(training_chunks(folder.notes))
    for name, reasons in verdicts.items():
        arm = Arm(model="tiny", revision="1", prompt=all_prompts()[name], sampling=Sampling(), seed=0)
        written = made.arm(arm)
        written.write(ArmRecord(arm=arm, engine="rules", judged_by="1"))
        results = [result(c, f"{name} {c.text}", *why, job=arm.job(c)) for c, why in zip(chunks, reasons, strict=False)]
        # Engines finish in any order.
        results = [*results[1::2], *results[::2]]
        for start in range(0, len(results), 64):
            written.results.append(results[start : start + 64])
        made.make_current(arm)
    return made
