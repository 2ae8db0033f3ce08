"""The compiled part of SciPy's FFT alone says what the whole of SciPy does, and there is a way without it."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import fft as scipys

from genrebeam.features import fft


@pytest.mark.parametrize("shape", [(64, 2048), (1, 4096), (3, 15)])
@pytest.mark.parametrize("compiled", [True, False])
def test_it_is_the_fft_of_scipy(shape, compiled, monkeypatch):
    assert fft._R2C is not None, "this SciPy is arranged otherwise: every decoding process now imports all of it"
    if not compiled:
        monkeypatch.setattr(fft, "_R2C", None)
    rows = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = fft.rfft(rows)
    assert found.dtype == np.complex64
    np.testing.assert_array_equal(found, scipys.rfft(rows, axis=1))


def test_decoding_imports_no_more_of_scipy():
    code = "import sys, genrebeam.features.extract; print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
