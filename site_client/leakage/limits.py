"""Whether a report keeps to the limits of the site."""

from __future__ import annotations

from site_client.folder import LeakageLimits
from site_client.leakage.report import ArmLeakage


def passed_limits(arm: ArmLeakage, limits: LeakageLimits) -> dict[str, str]:
    """Say which limits an arm goes beyond.

    Args:
        arm: measured.
        limits: of the site.

    Returns:
        For the name of each limit that is passed, the measure in words with its value and the limit.
    """
    planted = arm.identifiers.planted_surviving or 0
    measures: dict[str, tuple[str, float, float, str]] = {
        "max_verbatim_words": (
            "longest run of words from the source (p95)",
            arm.verbatim.words.p95,
            limits.max_verbatim_words,
            "d",
        ),
        "max_rare_ngram_share": (
            "rare n-grams kept",
            arm.rare_ngrams.share_kept,
            limits.max_rare_ngram_share,
            ".4g",
        ),
        "max_identifiers_per_1000": (
            "identifiers to 1,000 rephrasings",
            arm.identifiers.per_1000,
            limits.max_identifiers_per_1000,
            ".4g",
        ),
        "max_near_copy_share": (
            "near-copies of other patients' notes",
            arm.near_copies.share,
            limits.max_near_copy_share,
            ".4g",
        ),
        "max_planted_surviving": ("planted strings that survived", planted, limits.max_planted_surviving, "d"),
    }
    return {
        name: f"{what} {value:{form}}, limit {limit:{form}}"
        for name, (what, value, limit, form) in measures.items()
        if value > limit
    }
