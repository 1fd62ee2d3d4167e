"""What each part of an audit measures, and what it does not prove, in words for a privacy officer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Words about one part.

    Attributes:
        title: heading.
        means: what the numbers say.
        not_proof: what they do not prove.
    """

    title: str
    means: str
    not_proof: str


EXPLANATIONS = {
    "bounds": Explanation(
        title="How much privacy was lost",
        means=(
            "ε says how much the presence of one patient can change what the model turns out to be; 0 is not at "
            "all, and each step of 0.7 doubles the odds of a correct suspicion. Invented patients (canaries) "
            "were put into training by the toss of a coin. From how well the model knows each, an auditor "
            "guesses the coins. More right guesses than a given ε allows rule out that ε (Steinke, Nasr and "
            "Jagielski 2023)."
        ),
        not_proof=(
            "A low bar proves no privacy: it may only mean that this audit is too small, or that a better attack "
            "exists. The grey line is what training without any protection would show here. Only the "
            "accountant's bound is a guarantee, and it holds only if training was carried out as accounted for; "
            "a bar beyond it proves that it was not."
        ),
    ),
    "exposure": Explanation(
        title="Exposure of secrets",
        means=(
            "Each canary's secret is ranked by likelihood among random secrets of the same form. Exposure is the "
            "number of bits by which the model narrows the secret down: 0 for the last rank, the most for the "
            "first. A secret that the model does not know has about 1 (Carlini et al. 2019)."
        ),
        not_proof=(
            "Canaries are improbable strings, repeated as often as the site chose. Common facts are learned more "
            "easily without being anybody's, rare ones that stand in many notes of a patient are exposed more."
        ),
    ),
    "extraction": Explanation(
        title="What comes out word for word",
        means=(
            "The model is given the beginning of a secret, or the note before a planted string, and writes on. "
            "Counted is what comes out letter by letter. Secrets that were left out are the control: they cannot "
            "come out but by chance."
        ),
        not_proof="What does not come out here may come out with another beginning or another way of asking.",
    ),
    "membership": Explanation(
        title="Whether a patient was in training",
        means=(
            "For each patient the model's bits per byte on the patient's real notes are compared: notes that it "
            "knows cost it less. With a reference model, what that one needs is subtracted first: it is how hard "
            "the notes are by themselves. Training patients and held-out ones were split by chance, so any "
            "difference comes from training. An area of 0.5 is guessing, 1 is certainty."
        ),
        not_proof=(
            "The attack is a simple one; stronger ones train many models. An area near 0.5 says that the average "
            "patient is hard to find, not that every patient is: look at the left end of the curve."
        ),
    ),
    "corpus": Explanation(
        title="The synthetic corpus",
        means=(
            "Rephrasings are made from training notes before any model is trained. Counted are secrets and "
            "planted strings that stand in some rephrasing with all their words in a row."
        ),
        not_proof=(
            "A secret that was split up or paraphrased is not counted. The leakage report of the corpus looks at that."
        ),
    ),
}
"""By key of the part, in the order of the page."""
