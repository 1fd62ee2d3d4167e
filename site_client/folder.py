"""The site folder: everything that fednotes writes inside a hospital, and the site's own configuration.

    site.toml      name, number, limits, model folder; the site's word, which no run can overrule
    keys/          the secret under which patients and notes get their pseudonyms
    store/         notes (Parquet)
    corpus/        rephrasings by arm (Parquet)
    receipts       what left training, hash-chained
    gateway/       keys, approvals and receipts of the egress gateway of a deployed site
    ledger/        privacy spent, hash-chained; its head lies in keys/
    checkpoints/   inner optimizer state by study
    logs/          codes and places of failures, no texts

The folder is readable by its owner alone.
"""

from __future__ import annotations

import json
import os
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privacy.policy import PrivacyPolicy
from protocols.durable import whole_file, write_text
from protocols.error_codes import ContractError, ErrorCode
from protocols.errors import UsageError
from protocols.manifest import MANIFEST_FILE, ParameterManifest
from protocols.messages import SiteLimits, SiteNumber
from site_client.deployment import DeploymentConfig

_KEY_BYTES = 32


class RephrasingConfig(BaseModel):
    """Table ``[rephrasing]`` of ``site.toml``.

    Attributes:
        endpoints: hosts besides this machine that may be sent notes to rephrase. They have to stand inside the
            hospital; every other host is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    endpoints: tuple[str, ...] = ()


class LeakageLimits(BaseModel):
    """Table ``[leakage]`` of ``site.toml``: what ``fednotes site corpus export`` asks of the leakage report.

    Synthetic text is patient data. The defaults allow no export, and where the site allows one they are strict: careful
    paraphrases by a large model (80 chunks of MTSamples, two each) share runs of up to 16 words with their source at
    the 95th percentile, and 12 % of all its five-word runs.

    Attributes:
        export_allowed: whether this site may share synthetic text at all.
        max_verbatim_words: 95 of 100 rephrasings share no longer run of words with their source.
        max_rare_ngram_share: share of the five-word runs that one patient alone has and that outlive rephrasing.
        max_identifiers_per_1000: strings with the form of an identifier, to 1,000 rephrasings.
        max_near_copy_share: share of rephrasings that repeat a tenth or more of another patient's words.
        max_planted_surviving: planted strings in any rephrasing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    export_allowed: bool = False
    max_verbatim_words: Annotated[int, Field(ge=1, le=10_000)] = 20
    max_rare_ngram_share: Annotated[float, Field(ge=0, le=1)] = 0.15
    max_identifiers_per_1000: Annotated[float, Field(ge=0, le=1_000_000)] = 1.0
    max_near_copy_share: Annotated[float, Field(ge=0, le=1)] = 0.005
    max_planted_surviving: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class SiteConfig(BaseModel):
    """Contents of ``site.toml``.

    Attributes:
        name: what the hospital is called in reports.
        number: given at enrolment; the only name that the coordinator sees.
        model: folder with the configuration and tokenizer of the study's model, relative to the site folder.
        limits: what may leave.
        rephrasing: where rephrasing may take place.
        leakage: what the leakage report has to say before synthetic text is exported.
        privacy: what differential privacy this site demands and allows.
        deployment: where its programs listen and as whom they run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=200)]
    number: SiteNumber
    model: str = "model"
    limits: SiteLimits = SiteLimits()
    rephrasing: RephrasingConfig = RephrasingConfig()
    leakage: LeakageLimits = LeakageLimits()
    privacy: PrivacyPolicy = PrivacyPolicy()
    deployment: DeploymentConfig = DeploymentConfig()


@dataclass(frozen=True)
class SiteFolder:
    """Paths of a site folder.

    Args:
        path: the folder.
    """

    path: Path

    @classmethod
    def create(cls, path: Path, config: SiteConfig, *, pseudonym_key: bytes | None = None) -> Self:
        """Make a new site folder.

        Args:
            path: must not hold a site yet.
            config: becomes ``site.toml``.
            pseudonym_key: 32 secret bytes; drawn from the operating system when not given. Only a simulation gives
                one, so that a patient of two hospitals has one pseudonym.

        Raises:
            UsageError: there is a site already.
        """
        folder = cls(path)
        if (path / "site.toml").exists():
            raise UsageError(f"{path} holds a site already.", hint="choose another folder")
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
        with whole_file(path / "keys" / "pseudonym.key") as partial:
            partial.write_bytes(pseudonym_key or secrets.token_bytes(_KEY_BYTES))
        write_text(path / "site.toml", _to_toml(config))
        return folder

    def config(self) -> SiteConfig:
        """Read ``site.toml``.

        Raises:
            UsageError: it is missing or invalid; the message names the settings.
        """
        path = self.path / "site.toml"
        try:
            return SiteConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UsageError(f"{self.path} is no site folder (no site.toml).", hint="fednotes site init DIR") from error
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path} is not valid TOML: {error}.") from error
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
            raise UsageError(f"{path} has wrong settings: {wrong}.") from error

    def pseudonym_key(self) -> bytes:
        """The secret under which identifiers are hashed.

        Raises:
            UsageError: it is missing or too short.
        """
        path = self.path / "keys" / "pseudonym.key"
        try:
            key = path.read_bytes()
        except OSError as error:
            raise UsageError(f"The key {path} cannot be read.", hint="restore it from your backup") from error
        if len(key) < _KEY_BYTES:
            raise UsageError(f"The key {path} is shorter than {_KEY_BYTES} bytes.", hint="restore it from your backup")
        return key

    @property
    def model(self) -> Path:
        """Folder of the model's configuration and tokenizer."""
        return self.path / self.config().model

    def manifest(self) -> ParameterManifest:
        """The arrays of the installed model: what an update may consist of.

        Raises:
            ContractError: SITE_NOT_READY when the model folder has no manifest.
        """
        try:
            return ParameterManifest.model_validate_json((self.model / MANIFEST_FILE).read_bytes())
        except (OSError, ValidationError):
            raise ContractError(ErrorCode.SITE_NOT_READY, "no manifest in the model folder") from None

    @property
    def notes(self) -> Path:
        """The note store."""
        return self.path / "store" / "notes.parquet"

    @property
    def corpus(self) -> Path:
        """Folder of the rephrasings, one file an arm."""
        return self.path / "corpus"

    @property
    def receipts(self) -> Path:
        """The receipts of everything that left."""
        return self.path / "receipts"

    @property
    def gateway(self) -> Path:
        """Folder of the egress gateway."""
        return self.path / self.config().deployment.gateway_folder

    @property
    def ledger(self) -> Path:
        """Folder of the privacy ledger."""
        return self.path / "ledger"

    @property
    def log(self) -> Path:
        """What was refused and where, without texts."""
        return self.path / "logs" / "site.log"

    def checkpoints(self, study: str) -> Path:
        """Folder of a study's inner optimizer states."""
        return self.path / "checkpoints" / study


def _to_toml(config: SiteConfig) -> str:
    # JSON strings, numbers, booleans and lists of them are TOML; the standard library reads TOML but does not write it.
    lines: list[str] = []
    tables: list[str] = []
    for name, value in config.model_dump(mode="json").items():
        if isinstance(value, dict):
            tables += [
                "",
                f"[{name}]",
                *(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in value.items() if v is not None),
            ]
        else:
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join([*lines, *tables, ""])


def secure_umask() -> None:
    """Make every file that this process creates readable by its owner alone."""
    os.umask(0o077)
