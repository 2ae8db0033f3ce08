"""What one track may cost. Apart from the decoders, so that who only names limits does not import those."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class ExtractLimits:
    """What one track may cost before it is rejected.

    Attributes:
        min_duration_s: shorter tracks are rejected: a quarter of a chunk says nothing about a genre.
        max_duration_s: longer ones too; an endless stream must end somewhere.
        stall_s: how long a decoder may stay without delivering a block (features/isolated.py).
        memory_bytes: address space a decoding process may use (features/isolated.py).
        coverage_s: how much of it is heard, in evenly spaced stretches; None for all.
    """

    min_duration_s: float = 1.0
    max_duration_s: float = 48 * 3600.0
    stall_s: float = 60.0
    memory_bytes: int = 4 << 30
    coverage_s: float | None = None
