"""One signal at another rate, as librosa resamples it, and what that leaves of each frequency."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from genrebeam.features.fft import rfft

_QUALITY = "HQ"  # librosa's; less of it is hardly cheaper


def resampler(from_hz: int, to_hz: int) -> soxr.ResampleStream | None:
    """A stream for one channel of float32; None where nothing is to be done. Raises ValueError for an absurd rate."""
    return None if from_hz == to_hz else soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality=_QUALITY)


def power_left(factor: int, n_fft: int) -> NDArray[np.float32]:
    """What is left of a signal's power when it is resampled to one `factor`-th of its rate.

    No filter is perfectly steep: the highest bands lose a little, in what networks have learned from too.

    Returns:
        float32 [n_fft // 2 + 1], a share for each bin of an FFT at the higher rate.
    """
    impulse = np.zeros(n_fft // factor, np.float32)
    impulse[len(impulse) // 2] = 1
    # Up and down have the same response.
    response = soxr.resample(impulse, 1, factor, quality=_QUALITY)[:n_fft]
    padded = np.pad(response, (0, n_fft - len(response)))
    return np.square(np.abs(rfft(padded[np.newaxis])[0]) / factor)
