"""One round of local pretraining under differential privacy: charge first, compute second, and keep what was released.

The order is the guarantee. The round is charged to the site's account and on the disk before the first gradient is
computed, so a process that dies in between has paid for what nobody saw; it never happens the other way round.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from modeling.arrays import load_arrays, to_arrays
from modeling.release import empty_model
from modeling.unit_rows import UnitRows
from privacy.gradients.architectures import require_checked
from privacy.gradients.choose import backend_named, fastest_backend
from privacy.ledger import BudgetError
from privacy.private_step import PrivateStep
from privacy.randomness import SecureRandom
from protocols.durable import whole_file
from protocols.error_codes import ContractError, ErrorCode
from protocols.errors import FednotesError
from protocols.manifest import ParameterManifest
from protocols.messages import PrivacyRecipe, PrivacyUnit, TrainRequest
from site_client.audit.canaries import planted_patients
from site_client.checked_models import checked_models
from site_client.corpus import training_documents
from site_client.folder import SiteFolder
from site_client.optimizer_state import keep, restore
from site_client.privacy_account import ledger_of
from site_client.privacy_terms import charge_round, require_terms
from site_client.private_train import RoundFacts, private_steps
from site_client.store import iter_split
from site_client.train import make_optimizer

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerFast

    from privacy.accountant import PrivacySpend
    from privacy.gradients.clipped import Backend
    from privacy.mechanism import Mechanism
    from privacy.policy import PrivacyPolicy
    from protocols.manifest import Arrays


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PrivateUpdate:
    """What one private round made; all of it may be known to anybody.

    Attributes:
        round: the round.
        change: trained minus received weights.
        unit: whose privacy it is.
        spent: epsilon of the study so far.
        delta: at which.
        noise_multiplier: of every step.
    """

    round: int
    change: Arrays
    unit: PrivacyUnit
    spent: float
    delta: float
    noise_multiplier: float

    def __repr__(self) -> str:
        return f"PrivateUpdate(round {self.round})"


def train_private_round(folder: SiteFolder, request: TrainRequest, weights: Arrays) -> PrivateUpdate:
    """Train one round from the weights received, under the site's differential privacy.

    A round that is asked for again with the same weights gives the update that was released before, for nothing: to
    say the same thing twice tells nobody more. With other weights it is a new release, and charged as one.

    Args:
        folder: the site.
        request: which round, of what; has ``privacy``.
        weights: the global weights.

    Raises:
        ContractError: the weights are not those of the installed model, the site's policy refuses, its account is
            spent, or it has too few patients.
    """
    privacy = request.privacy
    if privacy is None:
        raise ContractError(ErrorCode.BAD_REQUEST, "no privacy in the request")
    config = folder.config()
    require_terms(privacy, config.privacy)
    folder.manifest().check(weights)
    mark = _mark(request, weights)
    states = _states(folder, request)
    kept = states / "released.safetensors"
    if (before := _read(kept, mark)) is not None:
        # What was charged since for other attempts belongs to the study too.
        return replace(before, spent=ledger_of(folder).account().spent_by(request.study).pld_bound)
    model, tokenizer = empty_model(folder.model)
    ParameterManifest.of(to_arrays(model)).check(weights)
    load_arrays(model, weights)
    rows = _rows(folder, request, tokenizer, config.privacy.unit)
    _require_population(folder, rows.num_units, config.privacy)
    backend = _backend(folder, request, model, privacy)
    mechanism, spent = _charge(folder, request, privacy)
    optimizer = make_optimizer(model, request.recipe)
    restore(optimizer, states, request.round)
    random = SecureRandom.from_system()
    facts = private_steps(
        model,
        optimizer,
        PrivateStep(model, mechanism, backend, random),
        rows,
        mechanism,
        request.recipe,
        random,
        first_step=(request.round - 1) * request.recipe.steps,
        steps=request.recipe.steps,
        total_steps=request.rounds * request.recipe.steps,
    )
    keep(optimizer, states, request.round)
    _note(states / "rounds.jsonl", request.round, facts)
    update = PrivateUpdate(
        round=request.round,
        change={name: value - weights[name] for name, value in to_arrays(model).items()},
        unit=config.privacy.unit,
        spent=spent.pld_bound,
        delta=spent.delta,
        noise_multiplier=mechanism.noise_multiplier,
    )
    _write(kept, update, mark)
    return update


def _charge(folder: SiteFolder, request: TrainRequest, privacy: PrivacyRecipe) -> tuple[Mechanism, PrivacySpend]:
    """Pay for the round; what was wrong becomes a code, and its words stay in the site's log."""
    try:
        return charge_round(folder, request, privacy)
    except BudgetError as error:
        raise ContractError(ErrorCode.PRIVACY_SPENT, error.message) from None
    except FednotesError as error:
        raise ContractError(ErrorCode.PRIVACY_REFUSED, error.message) from None


def _states(folder: SiteFolder, request: TrainRequest) -> Path:
    """What private rounds of a study leave behind, apart from what open ones do.

    The optimizer's moments after an open round hold bare gradients: going on from them would bring into a private
    update what nobody paid for.
    """
    return folder.checkpoints(request.study) / "private"


def _rows(folder: SiteFolder, request: TrainRequest, tokenizer: PreTrainedTokenizerFast, unit: PrivacyUnit) -> UnitRows:
    return UnitRows(
        training_documents(folder, request.corpus, tokenizer, unit),
        row_length=request.recipe.row_length,
        end_of_note=int(tokenizer.eos_token_id),
        padding=int(tokenizer.pad_token_id),
        each_row_alone=unit == "record",
    )


def _require_population(folder: SiteFolder, num_units: int, policy: PrivacyPolicy) -> None:
    """Refuse what no noise makes right; whether a site takes part at all is the one fact that this tells."""
    patients = len({note.patient_key for note in iter_split(folder.notes, "train")})
    if patients - planted_patients(folder) < folder.config().limits.min_patients:
        raise ContractError(ErrorCode.TOO_FEW_PATIENTS)
    if policy.delta * num_units >= 1:
        raise ContractError(ErrorCode.PRIVACY_REFUSED, f"delta {policy.delta:g} is not below 1 / {policy.unit}s")


def _backend(folder: SiteFolder, request: TrainRequest, model: nn.Module, privacy: PrivacyRecipe) -> Backend:
    """The way to compute gradients that the policy names, or the fastest; measured once a study."""
    try:
        require_checked(model, checked_models(folder))
    except FednotesError as error:
        raise ContractError(ErrorCode.PRIVACY_REFUSED, error.message) from None
    chosen = _states(folder, request) / "backend"
    name = folder.config().privacy.backend
    if name == "auto" and chosen.exists():
        name = chosen.read_text(encoding="ascii")
    if name != "auto":
        return backend_named(name)
    fastest = fastest_backend(model, units=4, records=privacy.max_records, tokens=request.recipe.row_length)
    with whole_file(chosen) as partial:
        partial.write_text(fastest.name, encoding="ascii")
    return fastest


def _mark(request: TrainRequest, weights: Arrays) -> str:
    """Digest of everything that the update depends on besides the notes and the noise."""
    digest = hashlib.sha256(request.model_dump_json().encode())
    for name in sorted(weights):
        digest.update(name.encode() + b"\0" + np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()


def _write(path: Path, update: PrivateUpdate, mark: str) -> None:
    facts = {"round": update.round, "unit": update.unit, "spent": update.spent, "delta": update.delta}
    facts |= {"noise_multiplier": update.noise_multiplier}
    with whole_file(path) as partial:
        save_file(dict(update.change), partial, metadata={"mark": mark, "facts": json.dumps(facts)})


def _read(path: Path, mark: str) -> PrivateUpdate | None:
    """What was released for exactly this request, if it was; a file that cannot be read was never released whole."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("mark") != mark:
                return None
            return PrivateUpdate(
                change={name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118 - it is no dictionary
                **json.loads(metadata["facts"]),
            )
    except (OSError, SafetensorError):
        return None


def _note(path: Path, round_number: int, facts: RoundFacts) -> None:
    """Write down for the site alone how the round went."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"round": round_number, **asdict(facts)}) + "\n")
