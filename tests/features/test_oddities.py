"""Other people's odd files: what FFmpeg plays audibly is heard. The files are no part of this repository."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from genrebeam.features.chunks import audible
from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import TrackError
from genrebeam.features.isolated import IsolatedExtractor

ODDITIES = Path(__file__).parents[3] / "shared" / "data" / "oddities"
_AUDIBLE_S, _QUIET_DB = 1.2, -70


def audible_s(path: Path) -> float:
    """Seconds of a file that FFmpeg, with all of its demuxers, plays above -70 dB."""
    seconds = 0.0
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            for packet in container.demux(container.streams.audio[0]):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    continue
                for frame in frames:
                    samples = frame.to_ndarray()
                    scale = np.iinfo(samples.dtype).max if samples.dtype.kind in "iu" else 1.0
                    level = np.sqrt(np.mean((np.nan_to_num(samples).astype(float) / scale) ** 2))
                    seconds += frame.samples / frame.sample_rate * (level > 10 ** (_QUIET_DB / 20))
    except (av.error.FFmpegError, IndexError, ValueError):
        pass
    return seconds


@pytest.mark.shared
@pytest.mark.slow
def test_what_ffmpeg_plays_audibly_is_a_result() -> None:
    if not ODDITIES.is_dir():
        pytest.skip(f"{ODDITIES} is absent: the odd files were NOT tried")
    extractor, missing, played = IsolatedExtractor(FrontEnd()), {}, 0
    for path in sorted(path for path in ODDITIES.rglob("*") if path.is_file()):
        if audible_s(path) < _AUDIBLE_S:
            continue
        played += 1
        try:
            levels, _, _ = extractor.extract(path)
        except TrackError as error:
            missing[path.name] = str(error)
        else:
            if not audible(levels, FrontEnd()):
                missing[path.name] = "silent"
    extractor.close()
    assert not missing
    assert played >= 30
