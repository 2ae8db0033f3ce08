"""Whatever is strange about one track - its name, its time, its size - costs that track at most, in every command."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import synth
import tagfiles
from commandline import genrebeam, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.dataset.dataset import REJECTS_DIR, RESULTS_DIR, Dataset
from genrebeam.pipelines.dataset.ledger import newest_results
from genrebeam.pipelines.library import discover as discovery
from genrebeam.pipelines.library.discover import discover

YEAR_1601, YEAR_2446, YEAR_10000 = -11_644_473_600, 15_000_000_000, 253_402_300_800
TIMES = (
    st.sampled_from((YEAR_1601, YEAR_2446, YEAR_10000, 0, -1))
    | st.floats(allow_nan=True)
    | st.integers(-(2**40), 2**40)
)
NAMES = st.text(min_size=0, max_size=30) | st.sampled_from(
    ("", "\n", "a\nb.mp3", "é.mp3", "e\u0301.mp3", "\udcff.mp3", "a\0b")
)
SIZES = st.integers(-(2**70), 2**70)
ANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANY
@given(uri=NAMES, track_id=NAMES, size=SIZES, mtime=TIMES)
def test_tag_keeps_or_rejects_any_track(
    uri: str, track_id: str, size: int, mtime: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange, usual = Track(uri, track_id, size, float(mtime)), Track("/m/usual.mp3", "usual ...", 7, 1.5)
    for found in (strange, Rejection(strange, "discover", "UnreadableFile", f"{uri}: strange")):
        monkeypatch.setattr(discovery, "_find", lambda *arguments, one=found: iter([one, usual]))
        result = discover(["anything"])
        assert len(result.tracks) + len(result.rejections) == 2
        assert usual in result.tracks
        dataset = Dataset.at(tmp_path / "out")
        dataset.add_rejects("run", result.rejections)
        dataset.add(RESULTS_DIR, "run", tagfiles.result_rows({track: [("blues", 0.9)] for track in result.tracks}))
        for kind in (RESULTS_DIR, REJECTS_DIR):
            dataset.rows(kind).to_pylist()
            for name in dataset.files(kind):
                (dataset.folder / kind).delete(name)


@pytest.fixture
def strange_times(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, int]]:
    """Inode to modification time in ns, for times that the file system of the tests cannot hold."""
    times: dict[int, int] = {}

    def lying(function: Any) -> Any:
        def stat(*arguments: Any, **options: Any) -> os.stat_result:
            found = function(*arguments, **options)
            if found.st_ino not in times:
                return found
            ns = times[found.st_ino]
            others = {name: getattr(found, name) for name in ("st_atime_ns", "st_ctime_ns", "st_atime", "st_ctime")}
            return os.stat_result(tuple(found)[:10], others | {"st_mtime_ns": ns, "st_mtime": ns / 1e9})

        return stat

    for name in ("stat", "lstat", "fstat"):
        monkeypatch.setattr(os, name, lying(getattr(os, name)))
    yield times


@pytest.mark.parametrize("undo", [False, True])
@pytest.mark.parametrize("year_s", [YEAR_1601, YEAR_2446, YEAR_10000])
def test_a_file_with_a_strange_time_does_not_stop_apply_or_undo(
    year_s: int, undo: bool, tmp_path: Path, strange_times: dict[int, int]
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    paths = [tagfiles.make(music, kind, kind) for kind in ("flac", "mp3", "ogg")]
    before = [path.read_bytes() for path in paths]
    tagfiles.results(tmp_path, {path: [("blues", 0.9)] for path in paths}, root=music)
    if undo:
        tagfiles.apply_all(tmp_path)
    strange_times[paths[1].stat().st_ino] = year_s * 10**9
    bytes_of_strange = paths[1].read_bytes()

    report = tagfiles.apply_all(tmp_path, undo=undo)

    assert (report.written, dict(report.errors)) == (2, {"UnreadableFile": 1})
    assert paths[1].read_bytes() == bytes_of_strange
    if undo:
        assert [path.read_bytes() for path in paths[::2]] == before[::2]
    (row,) = rows_of(tmp_path, "rejects")
    assert row["message"].startswith(f"{paths[1]}: its modification time")


@ANY
@given(uri=NAMES, track_id=NAMES, size=st.integers(-(2**63), 2**63 - 1), mtime_us=st.integers(-(2**62), 2**62))
def test_rows_that_say_strange_things_do_not_stop_apply(
    uri: str, track_id: str, size: int, mtime_us: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from genrebeam.pipelines.apply.options import ApplyOptions
    from genrebeam.pipelines.apply.plan import TagJob, job_from_row
    from genrebeam.pipelines.jobs import apply

    folder = tmp_path_factory.mktemp("rows")
    good = tagfiles.make(folder, "flac")
    before = good.read_bytes()
    tagfiles.results(folder / "out", {good: [("blues", 0.9)]}, root=folder)
    _, (row,) = apply.results_to_write(folder / "out")
    strange = job_from_row(row | {"uri": uri, "track_id": track_id, "size": size, "mtime_us": mtime_us})
    task = apply.new_run(folder / "out", ApplyOptions(yes=True))
    report = apply.work([[strange, job_from_row(row)]], task)
    assert (report.written, report.failed) == (1, 1)
    (entry,) = (one for batch in apply.batches_of_journal(folder / "out").batches for one in batch)
    odd = TagJob(strange.track, entries=entry.entries)
    report = apply.work([[odd, entry]], apply.new_run(folder / "out", ApplyOptions(yes=True)))
    assert (report.written, report.failed) == (1, 1)
    assert good.read_bytes() == before


STRANGE = [
    "a\nb.wav",
    "caf\udce9.wav",
    unicodedata.normalize("NFC", "é.wav"),
    unicodedata.normalize("NFD", "é.wav"),
    " blanks .wav",
    "-rf.wav",
    "%41 [x] #?*.wav",
    "\U0001f3b5" * 40 + ".wav",
    "no suffix",
]


@pytest.mark.slow
def test_files_with_strange_names_are_tagged_and_untagged(tmp_path: Path) -> None:
    music, out = tmp_path / "music", tmp_path / "out"
    paths = []
    for number, name in enumerate(STRANGE):
        made = synth.write(music / f"{number}.wav", synth.music(2.0, seed=number))
        paths.append(made.rename(music / name))
        os.utime(paths[-1], (0, (-1, 0, 2**31, 2**33)[number % 4]))
    before = [path.read_bytes() for path in paths]
    for arguments in (
        ["tag", music, "--output", out, "--workers", "1"],
        ["apply", out, "--yes", "--min-confidence", "0", "--max-unknown", "1"],
        ["undo", out, "--yes"],
    ):
        done = genrebeam(*arguments)
        assert arguments[0] == "tag" or f"changed  {len(paths)}" in done.stdout, done.stdout
        assert (arguments[0] == "apply") == any(p.read_bytes() != b for p, b in zip(paths, before, strict=True))
    assert len(newest_results(out)) == len(paths)
