"""Tags of objects in buckets: the contract of local files, and no change of somebody else is ever lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import buckets
import pyarrow.parquet as pq
import pytest
import synth
import tagfiles
from commandline import GENREBEAM, ROOT, shown_by
from rich.console import Console

from genrebeam.features.errors import Unreachable, UsageError
from genrebeam.features.schema import Track
from genrebeam.pipelines.apply import batch as changes
from genrebeam.pipelines.apply.options import ApplyOptions
from genrebeam.pipelines.dataset import journal
from genrebeam.pipelines.dataset.ledger import Ledger, read_rows
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.library.discover import discover
from genrebeam.pipelines.storage import objects
from genrebeam.pipelines.tags.policy import TagPolicy
from genrebeam.pipelines.tags.read import read_genres

KINDS = ("mp3", "flac", "ogg", "m4a", "wav", "wma")


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[buckets.Bucket]:
    with buckets.bucket_of(request.param) as made:
        yield made


def fill(bucket: Any, folder: Path, kinds: tuple[str, ...] = KINDS, genre: str | None = None) -> dict[str, bytes]:
    """Objects of some kinds, by name."""
    for kind in kinds:
        path = tagfiles.make(folder, kind, kind)
        tagfiles.fill(path, kind, genre)
        bucket.write(f"An Artist/{path.name}", path.read_bytes())
    return {name: bucket.read(name) for name in bucket.names()}


def hear(bucket: Any, output_dir: Path, genre: str = "blues", **options: Any) -> None:
    """Results for everything in the bucket."""
    found = discover([bucket.url("An Artist")]).tracks
    tagfiles.results_of_tracks(output_dir, {track: [(genre, 0.9)] for track in found}, **options)


@pytest.fixture
def song(bucket: Any, tmp_path: Path) -> str:
    """The name of one MP3, in which blues was heard."""
    (name,) = fill(bucket, tmp_path, ("mp3",))
    hear(bucket, tmp_path)
    bucket.moods.reset()
    return name


def genres(bucket: Any, folder: Path, name: str) -> tuple[str, ...]:
    copy = folder / ("copy" + Path(name).suffix)
    copy.write_bytes(bucket.read(name))
    return read_genres(copy)


def is_tagged(bucket: Any, output_dir: Path) -> bool:
    """Whether another `genrebeam tag` would find all done."""
    ledger = Ledger.read(output_dir)
    rows = read_rows(output_dir, "results", ["track_id", "model_fingerprint", "vote", "processed_at"]).to_pylist()
    how = {row["track_id"]: (row["model_fingerprint"], row["vote"]) for row in rows}
    tracks = discover([bucket.url("An Artist")]).tracks
    return all(ledger.is_tagged(track, *how[track.track_id]) for track in tracks)


def failures(output_dir: Path) -> list[tuple[str, str]]:
    return [(row["error"], row["message"]) for row in read_rows(output_dir, "rejects").to_pylist()]


def test_apply_and_undo_in_every_container(bucket: Any, tmp_path: Path) -> None:
    before = fill(bucket, tmp_path)
    about = {name: bucket.about(name) for name in before}
    hear(bucket, tmp_path)

    assert tagfiles.apply_all(tmp_path, dry_run=True).written == len(KINDS)
    assert {name: bucket.read(name) for name in before} == before
    assert not (tmp_path / "applied").exists()

    assert tagfiles.apply_all(tmp_path).outcomes == {"write": len(KINDS)}
    assert {genres(bucket, tmp_path, name) for name in before} == {("Blues",)}
    assert {name: bucket.about(name) for name in bucket.names()} == about
    assert is_tagged(bucket, tmp_path)

    writes = bucket.moods.writes()
    assert tagfiles.apply_all(tmp_path).outcomes == {"same": len(KINDS)}
    assert bucket.moods.writes() == writes

    assert tagfiles.apply_all(tmp_path, undo=True).outcomes == {"write": len(KINDS)}
    assert {name: bucket.read(name) for name in before} == before
    assert {name: bucket.about(name) for name in before} == about
    assert is_tagged(bucket, tmp_path)
    assert tagfiles.apply_all(tmp_path, undo=True).outcomes == {"nothing": len(KINDS)}
    assert tagfiles.apply_all(tmp_path).outcomes == {"write": len(KINDS)}, "and again"
    assert is_tagged(bucket, tmp_path)


def test_another_model_writes_over_what_we_wrote_and_undo_goes_back_to_the_start(bucket, song, tmp_path) -> None:
    before = bucket.read(song)
    assert tagfiles.apply_all(tmp_path).written == 1
    tracks = {track: [("jazz", 0.9)] for track in discover([bucket.url("An Artist")]).tracks}
    later = tagfiles.WHEN.replace(year=2027)
    tagfiles.results_of_tracks(tmp_path, tracks, fingerprint="fp-2", run_id="run-2", when=later)
    assert tagfiles.apply_all(tmp_path).written == 1
    assert genres(bucket, tmp_path, song) == ("Jazz",)
    assert is_tagged(bucket, tmp_path)
    assert tagfiles.apply_all(tmp_path, undo=True).written == 1
    assert bucket.read(song) == before


def test_who_has_a_genre_keeps_it(bucket: Any, tmp_path: Path) -> None:
    before = fill(bucket, tmp_path, ("mp3", "flac"), "Rock")
    hear(bucket, tmp_path)
    assert tagfiles.apply_all(tmp_path, policy="fill").outcomes == {"kept": 2}
    assert {name: bucket.read(name) for name in before} == before


def test_an_object_that_changed_since_the_analysis_is_left_alone(bucket: Any, song: str, tmp_path: Path) -> None:
    theirs = bucket.read(song) + b"\0"
    bucket.write(song, theirs)
    assert tagfiles.apply_all(tmp_path).errors == {"ChangedSinceAnalysis": 1}
    assert bucket.read(song) == theirs
    assert not bucket.moods.writes()


def test_an_object_that_changes_between_our_reading_and_our_writing_is_left_alone(bucket, song, tmp_path) -> None:
    theirs = bucket.read(song)[:-1] + b"\0"
    bucket.moods.before = lambda path: bucket.write(song, theirs)
    assert tagfiles.apply_all(tmp_path).errors == {"ChangedMeanwhile": 1}
    assert bucket.read(song) == theirs
    ((_, message),) = failures(tmp_path)
    assert bucket.url(song) in message


def test_an_object_that_vanishes_meanwhile_does_not_come_back(bucket: Any, song: str, tmp_path: Path) -> None:
    bucket.moods.before = lambda path: bucket.remove(song)
    assert tagfiles.apply_all(tmp_path).errors == {"ChangedMeanwhile": 1}
    assert bucket.names() == []
    with pytest.raises(Unreachable, match="no such object"):
        tagfiles.apply_all(tmp_path)
    assert bucket.names() == []


def test_undo_leaves_alone_what_somebody_edited(bucket: Any, song: str, tmp_path: Path) -> None:
    assert tagfiles.apply_all(tmp_path).written == 1
    path = tmp_path / "edited.mp3"
    path.write_bytes(bucket.read(song))
    tagfiles.fill(path, "mp3", "Polka")
    bucket.write(song, path.read_bytes())
    assert tagfiles.apply_all(tmp_path, undo=True).errors == {"EditedSince": 1}
    assert bucket.read(song) == path.read_bytes()


@pytest.mark.parametrize("lost", [1, 1000])
def test_a_put_whose_answer_is_lost_is_recognised(bucket: Any, song: str, tmp_path: Path, lost: int) -> None:
    # Once: the library tries again and meets its own first put. Always: it gives up.
    bucket.moods.lose = lost
    assert tagfiles.apply_all(tmp_path).outcomes == {"write": 1}
    assert genres(bucket, tmp_path, song) == ("Blues",)
    assert is_tagged(bucket, tmp_path)


@pytest.mark.parametrize(("status", "error"), [(503, "WriteFailed"), (403, "ReadOnly")])
def test_a_store_that_refuses_costs_a_reject_and_the_next_run_finishes(bucket, song, tmp_path, status, error) -> None:
    before = bucket.read(song)
    bucket.moods.refuse = status
    assert tagfiles.apply_all(tmp_path).errors == {error: 1}
    assert bucket.read(song) == before
    assert bucket.url(song) in failures(tmp_path)[0][1]
    assert str(tmp_path) not in failures(tmp_path)[0][1]
    bucket.moods.refuse = 0
    assert tagfiles.apply_all(tmp_path).outcomes == {"write": 1}
    assert tagfiles.apply_all(tmp_path, undo=True).outcomes == {"write": 1}
    assert bucket.read(song) == before
    assert is_tagged(bucket, tmp_path)


@pytest.mark.parametrize("undo", [False, True])
def test_killed_between_the_put_and_the_note_about_it(bucket, song, tmp_path, monkeypatch, undo) -> None:
    before = bucket.read(song)

    def killed(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    real = objects.replace_if_unchanged
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(objects, "replace_if_unchanged", killed)
        tagfiles.apply_all(tmp_path)
    assert genres(bucket, tmp_path, song) == ("Blues",)
    if undo:
        assert tagfiles.apply_all(tmp_path, undo=True).outcomes == {"write": 1}
        assert bucket.read(song) == before
    else:
        assert tagfiles.apply_all(tmp_path).outcomes == {"same": 1}
    assert is_tagged(bucket, tmp_path)


def test_killed_between_the_put_and_the_note_another_genre_may_follow(bucket, song, tmp_path, monkeypatch) -> None:
    real, before = objects.replace_if_unchanged, bucket.read(song)
    with monkeypatch.context() as patch:
        patch.setattr(objects, "replace_if_unchanged", lambda *arguments: real(*arguments) and None)
        assert tagfiles.apply_all(tmp_path).written == 1
    hear(bucket, tmp_path, "jazz", fingerprint="fp-1", run_id="run-0")  # as another --genre-map would have it
    (tmp_path / "results" / "run-0.parquet").replace(tmp_path / "results" / "run-1.parquet")
    assert tagfiles.apply_all(tmp_path).written == 1
    assert genres(bucket, tmp_path, song) == ("Jazz",)
    assert is_tagged(bucket, tmp_path)
    assert tagfiles.apply_all(tmp_path, undo=True).written == 1
    assert bucket.read(song) == before


@pytest.mark.slow
@pytest.mark.parametrize("done", [False, True])
def test_kill_9_at_the_put_and_run_again(bucket: Any, tmp_path: Path, done: bool) -> None:
    before = fill(bucket, tmp_path, ("mp3", "flac", "ogg"))
    hear(bucket, tmp_path)
    command = [*GENREBEAM, "apply", str(tmp_path), "--yes", "--workers", "1", "--quiet"]

    def kill(path: str) -> None:
        if done:  # the second put: one object is written, and no note about it
            bucket.moods.before = lambda path: os.kill(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGKILL)

    bucket.moods.before = kill
    process = subprocess.Popen(command, cwd=ROOT)
    assert process.wait(120) == -signal.SIGKILL
    time.sleep(0.5)  # the store may carry out what the killed process had sent
    for name, data in before.items():
        assert bucket.read(name) == data or genres(bucket, tmp_path, name) == ("Blues",)
    assert tagfiles.apply_all(tmp_path).failed == 0
    assert {genres(bucket, tmp_path, name) for name in before} == {("Blues",)}
    assert is_tagged(bucket, tmp_path)
    assert tagfiles.apply_all(tmp_path, undo=True).outcomes == {"write": 3}
    assert {name: bucket.read(name) for name in before} == before


def test_plans_are_on_the_disk_before_the_first_put(bucket: Any, song: str, tmp_path: Path) -> None:
    seen: list[Any] = []
    bucket.moods.before = lambda path: seen.extend(journal.read(tmp_path).to_pylist())
    tagfiles.apply_all(tmp_path)
    (row,) = seen
    assert (row["action"], row["uri"], row["mtime_ns_after"]) == ("apply", bucket.url(song), None)
    assert [row["action"] for row in journal.read(tmp_path).to_pylist()] == ["apply", "put"]


def test_few_objects_lie_on_the_local_disk_at_a_time(bucket, tmp_path, monkeypatch) -> None:
    fill(bucket, tmp_path)
    hear(bucket, tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setattr(changes, "_FETCHED_BYTES", 1)
    most, real = [], objects.read

    def read(*arguments: Any) -> Any:
        most.append(sum(1 for path in scratch.rglob("*") if path.is_file()))
        return real(*arguments)

    monkeypatch.setattr(objects, "read", read)
    assert tagfiles.apply_all(tmp_path).written == len(KINDS)
    assert max(most) == 1
    assert not list(scratch.iterdir())


def test_two_tracks_that_are_one_object_are_one_change(bucket: Any, song: str, tmp_path: Path) -> None:
    (track,) = discover([bucket.url(song)]).tracks
    twice = {track: [("blues", 0.9)], Track(track.uri, "again", track.size, track.mtime): [("blues", 0.9)]}
    tagfiles.results_of_tracks(tmp_path, twice)
    assert tagfiles.apply_all(tmp_path).outcomes == {"write": 1, "same": 1}


def test_damaged_and_foreign_objects_are_rejects_that_name_the_object(bucket: Any, tmp_path: Path) -> None:
    fill(bucket, tmp_path, ("flac",))
    path = tmp_path / "flac.flac"
    tagfiles.break_tag(path, "flac")
    bucket.write("An Artist/flac.flac", path.read_bytes())
    bucket.write("An Artist/text.mp3", b"hello")
    before = {name: bucket.read(name) for name in bucket.names()}
    hear(bucket, tmp_path)
    assert tagfiles.apply_all(tmp_path).failed == 2
    for _, message in failures(tmp_path):
        assert bucket.url("An Artist/") in message and "genrebeam-" not in message
    assert {name: bucket.read(name) for name in bucket.names()} == before


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
def test_a_store_that_ignores_conditions_is_not_written_to(bucket: Any, song: str, tmp_path: Path) -> None:
    before = bucket.read(song)
    bucket.moods.deaf = True
    assert tagfiles.apply_all(tmp_path).errors == {"NotTaggable": 1}
    assert "If-Match" in failures(tmp_path)[0][1]
    assert bucket.read(song) == before
    assert bucket.names() == [song]


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
def test_tags_of_the_object_that_may_not_be_read_are_not_lost(bucket, song, tmp_path) -> None:
    about = bucket.about(song)
    bucket.moods.no_tags = True
    assert tagfiles.apply_all(tmp_path).errors == {"ReadOnly": 1}
    assert bucket.about(song) == about


@pytest.mark.parametrize("bucket", ["gs"], indirect=True)
def test_a_change_of_metadata_meanwhile_is_not_lost_either(bucket: Any, song: str, tmp_path: Path) -> None:
    bucket.moods.before = lambda path: bucket.edit(song, contentLanguage="eo")
    assert tagfiles.apply_all(tmp_path).errors == {"ChangedMeanwhile": 1}
    assert tagfiles.apply_all(tmp_path).written == 1, "the sound is what was heard"
    assert bucket.about(song)["contentLanguage"] == "eo"


def test_a_large_object_of_which_the_connection_breaks(bucket: Any, tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, "wav", "long")
    path.write_bytes(path.read_bytes() + b"junk" + (9 << 20).to_bytes(4, "little") + bytes(9 << 20))
    bucket.write("An Artist/long.wav", path.read_bytes())
    hear(bucket, tmp_path)
    bucket.moods.cut = 1
    assert tagfiles.apply_all(tmp_path).written == 1
    assert bucket.moods.cut == 0
    assert tagfiles.apply_all(tmp_path, undo=True).written == 1
    assert bucket.read("An Artist/long.wav") == path.read_bytes()


@pytest.mark.slow
def test_the_same_on_a_beam_runner(bucket: Any, tmp_path: Path) -> None:
    from genrebeam.pipelines.jobs.apply_graph import apply_on_runner

    before = fill(bucket, tmp_path, ("mp3", "flac"))
    hear(bucket, tmp_path)
    engine = Engine("apache_beam.runners.portability.fn_api_runner.FnApiRunner")
    options = ApplyOptions(tags=TagPolicy(), yes=True)
    report = apply_on_runner(tmp_path, options, engine, console=Console(quiet=True))
    assert dict(report.outcomes) == {"write": 2}
    assert is_tagged(bucket, tmp_path)
    assert dict(apply_on_runner(tmp_path, options, engine, console=Console(quiet=True)).outcomes) == {"same": 2}
    assert tagfiles.apply_all(tmp_path, undo=True).written == 2
    assert {name: bucket.read(name) for name in before} == before


@pytest.mark.slow
def test_tag_write_and_tag_again(bucket: Any, tmp_path: Path) -> None:
    for seed, suffix in enumerate(("mp3", "flac", "m4a")):
        path = synth.write(tmp_path / f"{seed}.{suffix}", synth.music(6.0, seed=seed))
        if suffix == "flac":
            tagfiles.fill(path, suffix, "Jazz")
        bucket.write(f"Music/{path.name}", path.read_bytes())
    bucket.write("Music/broken.mp3", b"ID3 but nothing behind it" * 40)
    before = {name: bucket.read(name) for name in bucket.names()}
    out = tmp_path / "out"

    tag = ("tag", bucket.url("Music"), "--output", out, "--max-reject-share", "1", "--workers", "1")
    write = ("--write-tags", "fill", "--yes", "--min-confidence", "0", "--max-unknown", "1")
    shown = shown_by(*tag, *write)
    assert "tagged 3" in shown and "rejected 1 1 NotAudio" in shown and "changed 2 have another genre 1" in shown
    rows = pq.read_table(out / "results").to_pylist()
    assert {row["track_id"]: row["genre_before"] for row in rows} == {"0.mp3": [], "1.flac": ["Jazz"], "2.m4a": []}
    changed = {name for name, data in before.items() if bucket.read(name) != data}
    assert changed == {"Music/0.mp3", "Music/2.m4a"}

    shown = shown_by(*tag, *write)
    assert "done before 4" in shown and "changed 0" in shown
    assert "changed 2" in shown_by("undo", out, "--yes")
    assert {name: bucket.read(name) for name in bucket.names()} == before
    assert "done before 4" in shown_by(*tag)


def test_other_stores_are_refused_by_name(tmp_path: Path) -> None:
    tagfiles.results_of_tracks(tmp_path, {Track("hdfs://host/a.mp3", "a.mp3", 1, 0.0): [("blues", 0.9)]})
    assert tagfiles.apply_all(tmp_path).errors == {"NotTaggable": 1}
    assert "hdfs://host/a.mp3" in failures(tmp_path)[0][1]


@pytest.mark.parametrize(("uri", "package", "extra"), [("s3", "boto3", "aws"), ("gs", "google-cloud-storage", "gcp")])
def test_a_missing_package_ends_the_run_with_what_to_install(uri, package, extra, tmp_path, monkeypatch) -> None:
    for name in ("boto3", "google.cloud", "google.cloud.storage"):
        monkeypatch.setitem(sys.modules, name, None)
    buckets.forget_clients()
    tagfiles.results_of_tracks(tmp_path, {Track(f"{uri}://b/a.mp3", "a.mp3", 1, 0.0): [("blues", 0.9)]})
    with pytest.raises(
        UsageError, match=rf"{uri}:// needs the package {package}: pip install '\.\[{extra}\]' in genrebeam's folder"
    ):
        tagfiles.apply_all(tmp_path)
    with pytest.raises(UsageError, match=package):
        discover([f"{uri}://b/"])
