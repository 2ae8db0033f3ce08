"""Manifests as people have them, and files with strange times: one of them must not stop the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from genrebeam.pipelines.library.discover import discover


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_one_line_that_names_no_file_is_a_reject(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "Ä").mkdir()
    song = tmp_path / "Ä" / "song.mp3"
    song.write_bytes(b"x")
    lines = ["#EXTM3U", "http://radio.example/stream", "\xc4\\song.mp3  ", f"file://localhost{tmp_path}/gone.mp3"]
    (tmp_path / "list.m3u8").write_bytes("\r\n".join(lines).encode(encoding))
    found = discover([str(tmp_path / "list.m3u8")])
    assert [track.uri for track in found.tracks] == [str(song)]
    assert len(found.rejections) == 2


@pytest.mark.parametrize("year_s", [-11_644_473_600, 15_000_000_000, 253_402_300_800])
def test_a_time_that_nothing_can_hold_costs_one_file(year_s: int, tmp_path: Path) -> None:
    for name in ("strange.mp3", "usual.mp3"):
        (tmp_path / name).write_bytes(b"x")
    os.utime(tmp_path / "strange.mp3", (0, year_s))
    if (tmp_path / "strange.mp3").stat().st_mtime != year_s:
        pytest.skip("this file system cannot hold that time either")
    found = discover([str(tmp_path)])
    assert [track.track_id for track in found.tracks] == ["usual.mp3"]
    assert [rejection.track.track_id for rejection in found.rejections] == ["strange.mp3"]
