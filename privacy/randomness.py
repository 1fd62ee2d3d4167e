"""Randomness that protects patients: drawn from the operating system, never from an experiment's seed.

Whoever can recompute the noise can subtract it. torch's and numpy's generators are made for statistics: the state of
a Mersenne Twister follows from its output, and coordinates whose gradient is zero (the embedding of a token that
nobody used) show the noise bare. So the bits come from ChaCha20 under a key of the operating system, a new one in
every process; the key is never logged, written or restored.

Normal deviates are computed in float64 and rounded to float32 only after they were added, which leaves the attack on
low bits of textbook samplers (Mironov 2012, doi 10.1145/2382196.2382264) nothing that it could enumerate with ease.
"""

from __future__ import annotations

import os
from typing import Self

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

_KEY_BYTES, _NONCE_BYTES = 32, 16
_BLOCK = 1 << 20  # deviates at a time; bounds the memory of a large model's noise


class SecureRandom:
    """A stream of random numbers under a secret key.

    Args:
        key: 32 bytes. Only tests give one; use :meth:`from_system`.
    """

    def __init__(self, key: bytes) -> None:
        self._stream = Cipher(algorithms.ChaCha20(key, bytes(_NONCE_BYTES)), mode=None).encryptor()

    @classmethod
    def from_system(cls) -> Self:
        """Take a key from the operating system."""
        return cls(os.urandom(_KEY_BYTES))

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Draw from (0, 1], 53 bits each.

        Args:
            count: how many.
        """
        bits = np.frombuffer(self._stream.update(bytes(8 * count)), np.uint64)
        return ((bits >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53

    def normal(self, count: int) -> NDArray[np.float64]:
        """Draw standard normal deviates (Box and Muller 1958).

        Args:
            count: how many.
        """
        out = np.empty(count + count % 2)
        for start in range(0, len(out), _BLOCK):
            block = out[start : start + _BLOCK]
            half = len(block) // 2
            radius = np.sqrt(-2.0 * np.log(self.uniform(half)))
            angle = 2.0 * np.pi * self.uniform(half)
            np.multiply(radius, np.cos(angle), out=block[:half])
            np.multiply(radius, np.sin(angle), out=block[half:])
        return out[:count]
