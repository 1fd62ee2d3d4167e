"""The privacy ledger of a data set: every release is charged here before it is computed.

The ledger belongs to a hospital and its data set, not to a run: retries, other studies and a search for settings share
it, and nothing that is done to a run lowers it. It holds events; epsilon is derived (``privacy/accountant.py``). Its
head lies in another folder, so a ledger that was deleted or cut is noticed and never taken for an empty history.

A charge is on the disk before the step begins. A process that dies in between has paid for nothing, which is safe; a
line that is cut was not yet paid, and its step never began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from privacy.accountant import PrivacyEvent, PrivacySpend, spend
from privacy.ledger_entries import ENTRY, Entry, PrivacyAccount, StudyBegun, account_of
from privacy.mechanism import Mechanism
from privacy.policy import PrivacyPolicy
from protocols.errors import UsageError, WorkError
from protocols.hash_chain import HashChain, Head
from protocols.messages import PrivacyUnit

CLOCK_TOLERANCE = timedelta(minutes=5)


class BudgetError(WorkError):
    """The charge would pass the limit of the site; nothing was charged and nothing may be computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """What a charge made of the account.

    Attributes:
        study: spent by the study alone.
        total: spent on the data set.
        events: what ``total`` composes, this charge included.
    """

    study: PrivacySpend
    total: PrivacySpend
    events: tuple[PrivacyEvent, ...]


class Ledger:
    """The ledger of one data set.

    Args:
        folder: holds ``ledger.jsonl``.
        head: file that knows where the ledger ends; keep it in another folder.
        lock_timeout_s: how long to wait for another run that charges.
        clock: tells the time, with its zone.
    """

    def __init__(
        self,
        folder: Path,
        head: Path,
        *,
        lock_timeout_s: float = 30.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._chain: HashChain[Entry] = HashChain(
            folder / "ledger.jsonl", head, ENTRY, name="entries of the privacy ledger", lock_timeout_s=lock_timeout_s
        )
        self._clock = clock

    @property
    def path(self) -> Path:
        """The file."""
        return self._chain.path

    def exists(self) -> bool:
        """Whether a ledger was opened, even if it has been deleted since."""
        return self._chain.path.exists() or self._chain.head_path.exists()

    def open(self, *, dataset: str, unit: PrivacyUnit, delta: float, public_units: int) -> Self:
        """Make the ledger: data set, unit and delta are fixed from here on.

        Args:
            dataset: id of the data set.
            unit: whose privacy is accounted for.
            delta: chance of the guarantee to fail; below 1 / ``public_units``.
            public_units: public number of units in the data set.

        Raises:
            UsageError: there is a ledger, or traces of one, or delta is too large.
        """
        check_delta(delta, public_units)
        with self._chain.locked():
            if self.exists():
                raise UsageError(
                    f"There is a privacy ledger already: {self._chain.path} or its head {self._chain.head_path}.",
                    hint="it is for the data set's life; fednotes site privacy show",
                )
            facts = {"kind": "opened", "dataset": dataset, "unit": unit, "delta": delta}
            self._chain.extend(facts, time=_iso(self._clock()))
        return self

    def account(self) -> PrivacyAccount:
        """Read and verify the ledger.

        Raises:
            UsageError: there is none.
            WorkError: it is missing, cut, changed, or was written by a later version.
        """
        self._demand()
        return self._add_up(self._chain.read())

    def account_and_end(self) -> tuple[PrivacyAccount, Head]:
        """The account and where the ledger ended when it was read: what a signed statement is about.

        Raises:
            FednotesError: as in :meth:`account`.
        """
        self._demand()
        with self._chain.locked():
            return self._add_up(self._chain.links()), self._chain.end()

    def begin_study(
        self,
        study: str,
        *,
        target: float,
        mechanism: Mechanism,
        planned_steps: int,
        policy: PrivacyPolicy,
        dataset: str,
    ) -> None:
        """Write down what a study plans; a study that goes on after a restart says the same again.

        Args:
            study: its name.
            target: epsilon that its plan asks for.
            mechanism: of all its steps.
            planned_steps: over all rounds.
            policy: the site's; from ``site.toml``, never from a run.
            dataset: id of the data set at hand.

        Raises:
            UsageError: another data set, unit or delta than the ledger's; the policy does not allow the mechanism; or
                the study had another mechanism before.
            WorkError: the ledger is broken or locked, or the clock was set back.
        """
        _check_policy(mechanism, policy)
        with self._locked_account(policy, dataset) as account:
            begun = account.studies.get(study)
            if begun is not None:
                _check_same(begun, mechanism, policy.public_units)
                if (begun.target, begun.planned_steps) != (target, planned_steps):
                    raise UsageError(
                        f"Study {study} began with target {begun.target:g} over {begun.planned_steps} steps, and now "
                        f"asks for {target:g} over {planned_steps}.",
                        hint="go on with the plan it began with, or give the study another name",
                    )
                return
            facts: dict[str, object] = {
                "kind": "study",
                "study": study,
                "target": target,
                "sampling_rate": mechanism.sampling_rate,
                "noise_multiplier": mechanism.noise_multiplier,
                "max_grad_norm": mechanism.max_grad_norm,
                "max_records": mechanism.max_records,
                "public_units": policy.public_units,
                "planned_steps": planned_steps,
            }
            self._chain.extend(facts, time=self._now_after(account))

    def charge(
        self, study: str, round_number: int, mechanism: Mechanism, steps: int, policy: PrivacyPolicy, dataset: str
    ) -> Charged:
        """Pay for the steps of a round, before the first of them. A retry of a round pays again.

        Args:
            study: its name; :meth:`begin_study` comes first.
            round_number: of the study.
            mechanism: as the steps will carry it out.
            steps: of the round.
            policy: the site's; from ``site.toml``, never from a run.
            dataset: id of the data set at hand.

        Returns:
            What is spent now, this round included. It is on the disk.

        Raises:
            BudgetError: the data set's epsilon would pass the limit.
            UsageError: as in :meth:`begin_study`, or the study was not begun.
            WorkError: as in :meth:`begin_study`.
        """
        _check_policy(mechanism, policy)
        with self._locked_account(policy, dataset) as account:
            begun = account.studies.get(study)
            if begun is None:
                raise UsageError(
                    f"Study {study} is not in the privacy ledger {self.path}.", hint="begin_study comes before a charge"
                )
            _check_same(begun, mechanism, policy.public_units)
            event = PrivacyEvent(mechanism.sampling_rate, mechanism.noise_multiplier, steps)
            after = spend((*account.events, event), account.delta, account.unit)
            if not after.pld_bound <= policy.max_epsilon:  # also when it is not a number
                raise _over_budget(study, round_number, account, after, policy)
            of_study = spend((*account.events_by(study), event), account.delta, account.unit)
            facts: dict[str, object] = {
                "kind": "charge",
                "study": study,
                "round": round_number,
                "sampling_rate": event.sampling_rate,
                "noise_multiplier": event.noise_multiplier,
                "steps": steps,
            }
            self._chain.extend(facts, time=self._now_after(account))
        return Charged(study=of_study, total=after, events=(*account.events, event))

    def check_subject(self, account: PrivacyAccount, policy: PrivacyPolicy, dataset: str) -> None:
        """Refuse an account of another data set, or for another unit or delta than the site has now.

        Raises:
            UsageError: it is one of them.
        """
        for what, ours, given in (
            ("data set", account.dataset, dataset),
            ("unit", account.unit, policy.unit),
            ("delta", account.delta, policy.delta),
        ):
            if ours != given:
                raise UsageError(
                    f"The privacy ledger {self.path} is for {what} {ours}, not {given}.",
                    hint="one data set, one unit and one delta for the ledger's life: set them back in site.toml, "
                    "or restore the ledger that belongs to this data set",
                )

    @contextmanager
    def _locked_account(self, policy: PrivacyPolicy, dataset: str) -> Iterator[PrivacyAccount]:
        """Verify everything and keep others out until the entry is on the disk."""
        self._demand()  # before the lock, which would make the folder that was deleted
        with self._chain.locked():
            account = self._add_up(self._chain.links())
            self.check_subject(account, policy, dataset)
            yield account

    def _demand(self) -> None:
        if not self.exists():
            raise UsageError(
                f"There is no privacy ledger {self.path}.", hint="open it once: fednotes site privacy open --site DIR"
            )
        if not self.path.exists():
            raise WorkError(
                f"The privacy ledger {self.path} is missing; its head {self._chain.head_path} knows of it.",
                hint="restore it from a backup: without it nobody knows what is spent, and nothing may be trained",
            )

    def _add_up(self, entries: list[Entry]) -> PrivacyAccount:
        if not entries:  # a kill cut the first line: nothing was ever charged, but that is for a person to say
            raise WorkError(
                f"The privacy ledger {self.path} has no whole entry.",
                hint="if it was never used, remove the file and open it again: fednotes site privacy open --site DIR",
            )
        return account_of(entries, str(self.path))

    def _now_after(self, account: PrivacyAccount) -> str:
        """The time, or that of the last entry where the clock is a little behind: times never go back."""
        now, last = self._clock(), account.last_time
        if now < last - CLOCK_TOLERANCE:
            raise WorkError(
                f"The clock says {_iso(now)}, and the last entry of the privacy ledger {self.path} is of {_iso(last)}.",
                hint="set the clock right; if it was wrong then, wait, or ask whoever keeps this machine",
            )
        return _iso(max(now, last))


def check_delta(delta: float, public_units: int) -> None:
    """Refuse a delta with which a mechanism may be private and still give away one unit whole.

    Raises:
        UsageError: ``public_units`` is not set, or delta is not below 1 / ``public_units``.
    """
    if public_units < 1:
        raise UsageError(
            "The public number of units is not set.",
            hint="set public_units in table [privacy] of site.toml: about how many patients (or notes, records) this "
            "hospital states publicly, in round figures and not counted from the notes",
        )
    if delta >= 1 / public_units:
        raise UsageError(
            f"Delta {delta:g} is not below 1 / {public_units:,} units = {1 / public_units:.3g}.",
            hint=f"set delta in table [privacy] of site.toml to {0.1 / public_units:.0e} or less",
        )


def _check_policy(mechanism: Mechanism, policy: PrivacyPolicy) -> None:
    """Hold a mechanism against what the site allows."""
    check_delta(policy.delta, policy.public_units)
    wrong = [
        f"{name} is {value:g}, the site's {word} is {limit:g}"
        for name, value, word, limit, allowed in (
            (
                "noise_multiplier",
                mechanism.noise_multiplier,
                "least",
                policy.min_noise_multiplier,
                mechanism.noise_multiplier >= policy.min_noise_multiplier,
            ),
            (
                "sampling_rate",
                mechanism.sampling_rate,
                "most",
                policy.max_sampling_rate,
                mechanism.sampling_rate <= policy.max_sampling_rate,
            ),
            (
                "max_records",
                mechanism.max_records,
                "most",
                policy.max_records,
                mechanism.max_records <= policy.max_records,
            ),
        )
        if not allowed
    ]
    if wrong:
        raise UsageError(
            f"The site does not allow this mechanism: {'; '.join(wrong)}.",
            hint="change the plan; table [privacy] of site.toml is the site's word",
        )


def _check_same(begun: StudyBegun, mechanism: Mechanism, public_units: int) -> None:
    """A study has one mechanism: another one would need a plan, and a name, of its own."""
    differs = [
        f"{name} {before:g} -> {now:g}"
        for name, before, now in (
            ("sampling_rate", begun.sampling_rate, mechanism.sampling_rate),
            ("noise_multiplier", begun.noise_multiplier, mechanism.noise_multiplier),
            ("max_grad_norm", begun.max_grad_norm, mechanism.max_grad_norm),
            ("max_records", begun.max_records, mechanism.max_records),
            ("public_units", begun.public_units, public_units),
            ("expected_units", begun.sampling_rate * begun.public_units, mechanism.expected_units),
        )
        if before != now
    ]
    if differs:
        raise UsageError(
            f"Study {begun.study} began with another mechanism: {', '.join(differs)}.",
            hint="go on with the settings it began with, or give the study another name",
        )


def _over_budget(
    study: str, round_number: int, account: PrivacyAccount, after: PrivacySpend, policy: PrivacyPolicy
) -> BudgetError:
    before = account.spent()
    return BudgetError(
        f"Round {round_number} of study {study} would bring this data set to {account.unit}-level epsilon "
        f"{after.pld_bound:.4f}; the limit of this site is {policy.max_epsilon:g}. Spent so far: "
        f"{before.pld_bound:.4f} in {before.num_releases:,} releases, at delta {account.delta:g}. Nothing was charged.",
        hint="plan fewer steps or more noise (fednotes site privacy plan); whoever answers for the hospital's data may "
        "raise max_epsilon in table [privacy] of site.toml",
    )


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")
