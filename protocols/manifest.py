"""The manifest: the exact names, shapes and dtype of the arrays that may cross the line, in order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from protocols.error_codes import ContractError, ErrorCode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.float32]]

MANIFEST_FILE = "manifest.json"
"""Name of the manifest in a model folder."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{1,200}$")]
Dim = Annotated[int, Field(ge=1, le=2**31)]


class ParameterSpec(BaseModel):
    """One array: its name, shape and dtype."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    shape: Annotated[tuple[Dim, ...], Field(max_length=4)]
    dtype: Literal["float32"] = "float32"

    @property
    def num_bytes(self) -> int:
        """Size of the array without a header [bytes]."""
        return 4 * math.prod(self.shape)


class ParameterManifest(BaseModel):
    """All arrays of a model, in the order in which they travel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: Annotated[tuple[ParameterSpec, ...], Field(min_length=1, max_length=10_000)]

    @classmethod
    def of(cls, arrays: Arrays) -> ParameterManifest:
        """Describe the given arrays, sorted by name."""
        return cls(parameters=tuple(ParameterSpec(name=k, shape=arrays[k].shape) for k in sorted(arrays)))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form (hex)."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def num_bytes(self) -> int:
        """Size of the arrays without headers [bytes]."""
        return sum(spec.num_bytes for spec in self.parameters)

    def check(self, arrays: Arrays) -> None:
        """Refuse arrays that are not exactly the listed ones.

        Raises:
            ContractError: MANIFEST_MISMATCH for a missing, extra, mis-shaped or wrongly typed array.
        """
        listed = {spec.name for spec in self.parameters}
        if set(arrays) != listed:
            missing, extra = len(listed - set(arrays)), len(set(arrays) - listed)
            raise ContractError(ErrorCode.MANIFEST_MISMATCH, f"{missing} arrays missing, {extra} not listed")
        for spec in self.parameters:
            array = arrays[spec.name]
            if array.shape != spec.shape or str(array.dtype) != spec.dtype:
                raise ContractError(ErrorCode.MANIFEST_MISMATCH, f"shape or dtype of {spec.name}")
