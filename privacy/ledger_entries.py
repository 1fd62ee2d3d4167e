"""What a privacy ledger consists of, and the account that its entries add up to.

No entry holds a seed, the size of a batch as drawn, or any other number that depends on the notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from privacy.accountant import PrivacyEvent, PrivacySpend, spend
from protocols.errors import WorkError
from protocols.hash_chain import Link
from protocols.messages import PrivacyUnit, Round, StudyName

SCHEMA_VERSION = 1

_Finite = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Rate = Annotated[float, Field(gt=0, le=1)]
_Count = Annotated[int, Field(ge=1, le=10**9)]


class Opened(Link):
    """First entry: what holds for the life of the data set.

    Attributes:
        dataset: id of the data set.
        unit: whose privacy is accounted for.
        delta: at which epsilon is stated.
        schema_version: of the entries.
    """

    kind: Literal["opened"] = "opened"
    dataset: Annotated[str, Field(min_length=1, max_length=100)]
    unit: PrivacyUnit
    delta: Annotated[float, Field(gt=0, lt=1)]
    schema_version: Annotated[int, Field(ge=1)] = SCHEMA_VERSION


class StudyBegun(Link):
    """What a study planned, and the mechanism that every one of its charges must have.

    Attributes:
        study: its name.
        target: epsilon that its plan asked for.
        sampling_rate: of its steps.
        noise_multiplier: of its steps.
        max_grad_norm: clipping bound of a unit.
        max_records: records of a unit in a step.
        public_units: public number of units, below the sum of gradients.
        planned_steps: over all rounds.
    """

    kind: Literal["study"] = "study"
    study: StudyName
    target: _Finite
    sampling_rate: _Rate
    noise_multiplier: _Finite
    max_grad_norm: _Finite
    max_records: _Count
    public_units: _Count
    planned_steps: _Count

    def covers(self, charge: Charge) -> bool:
        """Whether a charge is for the mechanism that was planned."""
        return (charge.sampling_rate, charge.noise_multiplier) == (self.sampling_rate, self.noise_multiplier)


class Charge(Link):
    """The steps of a round, paid before the first of them.

    Attributes:
        study: which pays.
        round: of the study; a retry is an entry more.
        sampling_rate: of the steps.
        noise_multiplier: of the steps.
        steps: how many.
    """

    kind: Literal["charge"] = "charge"
    study: StudyName
    round: Round
    sampling_rate: _Rate
    noise_multiplier: _Finite
    steps: _Count

    @property
    def event(self) -> PrivacyEvent:
        """What the accountant composes."""
        return PrivacyEvent(self.sampling_rate, self.noise_multiplier, self.steps)


Entry = Annotated[Opened | StudyBegun | Charge, Field(discriminator="kind")]
ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)
"""Reads a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyAccount:
    """The verified state of a ledger.

    Attributes:
        dataset: id of the data set.
        unit: whose privacy.
        delta: for the data set's life.
        studies: what each study planned, by name.
        charges: in the order of the ledger.
        last_time: of the last entry.
    """

    dataset: str
    unit: PrivacyUnit
    delta: float
    studies: Mapping[str, StudyBegun]
    charges: tuple[Charge, ...]
    last_time: datetime

    @property
    def events(self) -> tuple[PrivacyEvent, ...]:
        """Everything released on the data set."""
        return tuple(charge.event for charge in self.charges)

    def events_by(self, study: str) -> tuple[PrivacyEvent, ...]:
        """Everything released for a study."""
        return tuple(charge.event for charge in self.charges if charge.study == study)

    def spent(self) -> PrivacySpend:
        """What all releases together can tell about a unit."""
        return spend(self.events, self.delta, self.unit)

    def spent_by(self, study: str) -> PrivacySpend:
        """What the releases of one study can tell about a unit; epsilons of studies do not simply add up."""
        return spend(self.events_by(study), self.delta, self.unit)

    def left(self, limit: float) -> float:
        """Epsilon between what is spent and a limit; never below 0."""
        return max(0.0, limit - self.spent().pld_bound)


def account_of(entries: Sequence[Entry], where: str) -> PrivacyAccount:
    """Add up the entries of a whole chain.

    Args:
        entries: at least one.
        where: file they came from, for errors.

    Raises:
        WorkError: they are of a later version, or do not make sense in this order.
    """
    opened, rest = entries[0], entries[1:]
    if not isinstance(opened, Opened):
        raise _senseless(where, 1)
    if opened.schema_version > SCHEMA_VERSION:
        raise WorkError(
            f"The privacy ledger {where} has schema version {opened.schema_version}; this fednotes reads "
            f"{SCHEMA_VERSION}.",
            hint="use the version of fednotes that wrote it, or a later one",
        )
    studies: dict[str, StudyBegun] = {}
    charges: list[Charge] = []
    last = _time_of(opened, where)
    for entry in rest:
        before, last = last, _time_of(entry, where)
        if last < before or isinstance(entry, Opened):
            raise _senseless(where, entry.number)
        if isinstance(entry, StudyBegun):
            if entry.study in studies:
                raise _senseless(where, entry.number)
            studies[entry.study] = entry
        else:
            begun = studies.get(entry.study)
            if begun is None or not begun.covers(entry):
                raise _senseless(where, entry.number)
            charges.append(entry)
    return PrivacyAccount(
        dataset=opened.dataset,
        unit=opened.unit,
        delta=opened.delta,
        studies=studies,
        charges=tuple(charges),
        last_time=last,
    )


def _time_of(entry: Entry, where: str) -> datetime:
    try:
        time = datetime.fromisoformat(entry.time)
    except ValueError:
        raise _senseless(where, entry.number) from None
    if time.tzinfo is None:
        raise _senseless(where, entry.number)
    return time


def _senseless(where: str, number: int) -> WorkError:
    return WorkError(
        f"The privacy ledger {where} is broken at line {number}: an entry that fednotes does not write, or a time "
        "before that of the line before.",
        hint="keep the file as evidence, restore it from a backup, and find out who wrote to it",
    )
