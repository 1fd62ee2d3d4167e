"""Which results a report or an export is about: a digest tells whether they are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from site_client.rephrasing.arm import Arm
from site_client.rephrasing.corpus_folder import ArmFolder, CorpusFolder
from site_client.rephrasing.results import Result


class Covered:
    """The accepted results of an arm for the present notes, counted as they are read.

    Args:
        corpus: of the site.
        folder: the arm.
        arm: what it is, from its record.

    Attributes:
        count: results read so far.
        text_bytes: of their texts, in UTF-8.
    """

    def __init__(self, corpus: CorpusFolder, folder: ArmFolder, arm: Arm) -> None:
        self._corpus, self._folder, self._arm = corpus, folder, arm
        self._sum = 0
        self._patients: set[str] = set()
        self.count = self.text_bytes = 0

    def __iter__(self) -> Iterator[Result]:
        for result in self._folder.results_of(self._corpus.jobs(self._arm)):
            if result.reasons:
                continue
            text = result.text.encode("utf-8", "surrogatepass")
            # A sum does not depend on the order: judging anew may write the same results in another one.
            self._sum += int.from_bytes(hashlib.sha256(result.job.encode() + b"\0" + text).digest(), "big")
            self._patients.add(result.patient_key)
            self.count += 1
            self.text_bytes += len(text)
            yield result

    @property
    def patients(self) -> int:
        """Patients whose notes were rephrased in what was read so far."""
        return len(self._patients)

    @property
    def digest(self) -> str:
        """Of jobs and texts read so far, in any order (hex)."""
        return f"{self._sum % (1 << 256):064x}"
