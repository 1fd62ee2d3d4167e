"""One round of local pretraining at a site: global weights in, a LocalUpdate out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from modeling.arrays import load_arrays, to_arrays
from modeling.bits_per_byte import Score, score_texts
from modeling.release import empty_model
from privacy.note_types import CleanNote
from protocols.error_codes import ContractError, ErrorCode
from protocols.manifest import ParameterManifest
from protocols.messages import TrainRequest
from site_client.audit.canaries import planted_patients
from site_client.corpus import training_documents
from site_client.folder import SiteFolder
from site_client.optimizer_state import keep, restore
from site_client.round_checkpoint import RoundCheckpoint
from site_client.store import read_split
from site_client.train import make_optimizer, make_rows, train_steps

if TYPE_CHECKING:
    from protocols.manifest import Arrays

_MAX_VALIDATION_NOTES = 16


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LocalUpdate:
    """What one round made, exact and not yet fit to leave; ``egress`` turns it into a TrainReply.

    Attributes:
        round: the round.
        delta: trained minus received weights.
        train_tokens: tokens trained on.
        train_loss: mean over them [nats/token].
        corpus_tokens: one pass over the training corpus.
        full_rows: whether the recipe alone fixes ``train_tokens``.
        train_patients: privacy units whose tokens were trained on in this round.
        validation: score of the received weights on each validation note looked at.
        validation_patients: privacy units among those notes.
    """

    round: int
    delta: Arrays
    train_tokens: int
    train_loss: float
    corpus_tokens: int
    full_rows: bool
    train_patients: int
    validation: list[Score]
    validation_patients: int

    def __repr__(self) -> str:
        return f"LocalUpdate(round {self.round})"


def train_round(folder: SiteFolder, request: TrainRequest, weights: Arrays) -> LocalUpdate:
    """Train one round from the weights received.

    The same request always gives the same update: the order of the data depends on the recipe's seed and the step
    alone, and the inner optimizer's state is the one kept after the round before. A round that was interrupted goes on
    from its last checkpoint.

    Args:
        folder: the site.
        request: which round, of what.
        weights: the global weights.

    Raises:
        ContractError: the weights are not those of the installed model, the site has too few patients, or it trains
            under differential privacy alone.
    """
    if folder.config().privacy.required:
        raise ContractError(ErrorCode.PRIVACY_REQUIRED, "the site's policy asks for differential privacy")
    model, tokenizer = empty_model(folder.model)
    ParameterManifest.of(to_arrays(model)).check(weights)
    load_arrays(model, weights)
    rows = make_rows(training_documents(folder, request.corpus, tokenizer), request.recipe, tokenizer)
    first_step = (request.round - 1) * request.recipe.steps
    # Before any training: what is learnt from too few patients must not even exist. The rows of this very round count,
    # not the corpus: a recipe of one short row would otherwise lay a single note bare.
    patients = rows.num_units(first_step, request.recipe.steps, request.recipe.rows) - planted_patients(folder)
    if patients < folder.config().limits.min_patients:
        raise ContractError(ErrorCode.TOO_FEW_PATIENTS)
    validation, validation_patients = _validate(folder, model, tokenizer)
    optimizer = make_optimizer(model, request.recipe)
    states = folder.checkpoints(request.study)
    restore(optimizer, states, request.round)
    inside = RoundCheckpoint(states, request, weights)
    progress = inside.resume(model, optimizer)

    def on_step(tokens: int, loss: float) -> None:
        progress.add(tokens, loss)
        inside.keep_when_due(model, optimizer, progress)

    train_steps(
        model,
        optimizer,
        rows,
        request.recipe,
        first_step=first_step + progress.steps,
        steps=request.recipe.steps - progress.steps,
        total_steps=request.rounds * request.recipe.steps,
        on_step=on_step,
    )
    inside.keep(model, optimizer, progress)
    keep(optimizer, states, request.round)
    return LocalUpdate(
        round=request.round,
        delta={name: value - weights[name] for name, value in to_arrays(model).items()},
        train_tokens=progress.tokens,
        train_loss=progress.loss,
        corpus_tokens=rows.num_tokens,
        full_rows=request.recipe.packing == "stream",
        train_patients=patients,
        validation=validation,
        validation_patients=validation_patients,
    )


def _validate(
    folder: SiteFolder, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[Score], int]:
    """Score the received weights on a fixed choice of validation notes."""
    notes = _across_patients(read_split(folder.notes, "validation"))[:_MAX_VALIDATION_NOTES]
    return score_texts(model, tokenizer, [n.text for n in notes]), len({n.patient_key for n in notes})


def _across_patients(notes: Sequence[CleanNote]) -> list[CleanNote]:
    """Order notes so that any first few cover as many patients as they can."""
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, str, CleanNote]] = []
    for note in sorted(notes, key=lambda n: n.note_key):
        ranked.append((seen[note.patient_key], note.note_key, note))
        seen[note.patient_key] += 1
    return [note for _, _, note in sorted(ranked, key=lambda r: r[:2])]
