"""Where every random number comes from: a hash of what it is for, never a generator that is carried along."""

from __future__ import annotations

import hashlib
import json

SEED_BITS = 63  # fits a signed 64-bit integer, which is what torch and numpy generators take


def seed_for(*parts: str | int) -> int:
    """Return the seed that belongs to `parts`, the same in every process and on every machine.

    A rollout uses `seed_for(seed, step, task, sample, turn)`: a sample then depends neither on its batch nor on what
    was drawn before, and a half-finished step can simply be run again.

    Args:
        parts: what the random number is for, in order; texts and integers.

    Returns:
        an integer in [0, 2**63): the first 63 bits of the BLAKE2b hash of the parts, written as JSON.

    Example:
        >>> seed_for(0, 3, "FI-currency", 1, 0) == seed_for(0, 3, "FI-currency", 1, 0)
        True
        >>> seed_for("a", 1) == seed_for("a", "1")
        False
    """
    written = json.dumps(parts, ensure_ascii=True, separators=(",", ":")).encode()
    digest = hashlib.blake2b(written, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - SEED_BITS)
