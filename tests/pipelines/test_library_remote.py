"""Libraries in buckets are found, heard and remembered as local ones are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import buckets
import pytest

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.library.discover import discover
from genrebeam.pipelines.storage import objects


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[buckets.Bucket]:
    with buckets.bucket_of(request.param) as made:
        yield made


NAMES = (
    "Music/A/1.mp3", "Music/A/2.flac", "Music/B [live]/3 ? #*%.ogg", "Music/B [live]/cover.JPG", "Music/A/",
    "Music/A/.DS_Store", "Music/A/._1.mp3", "Music/.genrebeam-x.tmp", "Musical/4.mp3",
)  # fmt: skip


@pytest.fixture
def music(bucket: Any) -> Any:
    for name in NAMES:
        bucket.write(name, b"x" * len(name) if not name.endswith("/") else b"")
    return bucket


def ids(*libraries: str) -> list[str]:
    return [track.track_id for track in discover(libraries).tracks]


@pytest.mark.parametrize("slash", ["", "/"])
def test_everything_below_a_folder(music: Any, slash: str) -> None:
    found = discover([music.url("Music" + slash)])
    assert [track.track_id for track in found.tracks] == ["A/1.mp3", "A/2.flac", "B [live]/3 ? #*%.ogg"]
    assert [(r.track.track_id, r.error) for r in found.rejections] == [("B [live]/cover.JPG", "NotAudio")]
    assert found.tracks[0].uri == music.url("Music/A/1.mp3")
    seen = objects.stat(found.tracks[0].uri)
    assert (found.tracks[0].size, round(found.tracks[0].mtime * 1e6)) == (seen.size, seen.mtime_us)


def test_globs_single_objects_and_names_that_look_like_globs(music: Any) -> None:
    assert ids(music.url("Music/*/*.mp3")) == ["A/1.mp3"]
    assert ids(music.url("Mus*/**/*.mp3")) == ["Music/A/1.mp3", "Musical/4.mp3"]
    assert ids(music.url("Music/A/[!1].*")) == ["2.flac"]
    assert ids(music.url("Music/A/1.mp3")) == ["1.mp3"]
    assert ids(music.url("Music/B [live]")) == ["3 ? #*%.ogg"]
    assert ids(music.url("Music/B [live]/3 ? #*%.ogg")) == ["3 ? #*%.ogg"]
    assert len(ids(music.url("").rstrip("/"))) == 4


def test_a_manifest_names_objects_and_a_missing_one_is_a_reject(music: Any, tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"
    rows = [(music.url("Music/A/1.mp3"), "one"), (music.url("Music/B [live]/3 ? #*%.ogg"), ""), (music.url("no"), "")]
    manifest.write_text("uri,track_id\n" + "".join(f'"{uri}",{track_id}\n' for uri, track_id in rows))
    found = discover([str(manifest)])
    assert [track.track_id for track in found.tracks] == ["music/Music/B [live]/3 ? #*%.ogg", "one"]
    (rejection,) = found.rejections
    assert (rejection.stage, rejection.error) == ("discover", "UnreadableFile")
    assert music.url("no") in rejection.message and "no such object" in rejection.message


def test_other_schemes_are_asked_through_beam_with_its_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    from apache_beam.io.filesystem import FileMetadata, MatchResult
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import HadoopFileSystemOptions

    def match(patterns: list[str]) -> list[MatchResult]:
        assert FileSystems._pipeline_options.view_as(HadoopFileSystemOptions).hdfs_host == "here"
        found = [FileMetadata("hdfs://music/A/1.mp3", 5, 7.5), FileMetadata("hdfs://music/A/.DS_Store", 1, 7.5)]
        return [MatchResult(patterns[0], found)]

    monkeypatch.setattr(FileSystems, "match", match)
    (track,) = discover(["hdfs://music"], beam_flags=["--hdfs_host=here"]).tracks
    assert (track.uri, track.track_id, track.size, track.mtime) == ("hdfs://music/A/1.mp3", "A/1.mp3", 5, 7.5)


def test_nothing_there_and_no_such_bucket_are_told_apart(music: Any) -> None:
    with pytest.raises(UsageError, match="nothing there"):
        discover([music.url("Jazz")])
    with pytest.raises(UsageError, match=r"cannot be listed.*bucket does not exist"):
        discover([f"{music.scheme}://elsewhere/Music"])


def test_bins_and_what_the_owner_excludes_are_passed_over_in_buckets_too(music: Any) -> None:
    before = ids(music.url("Music"))
    for name in ("Music/#recycle/old.mp3", "Music/A/1.mp3.part", "Music/Podcasts/1.mp3"):
        music.write(name, b"x")
    assert ids(music.url("Music")) == [*before, "Podcasts/1.mp3"]
    assert [t.track_id for t in discover([music.url("Music")], exclude=["Podcasts"]).tracks] == before
    music.write("Music/.genrebeamignore", b"Podcasts/\n")
    assert ids(music.url("Music")) == before
