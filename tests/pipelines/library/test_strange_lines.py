"""Manifests as people have them, and files with strange times: one of them must not stop the others."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genrebeam.features.errors import UsageError
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


def music(folder: Path) -> list[str]:
    for name in ("J\xf3ga.flac", "Plain.flac"):
        (folder / name).write_bytes(b"x")
    return [str(folder / "J\xf3ga.flac"), str(folder / "Plain.flac")]


def uris(manifest: Path) -> list[str]:
    return [track.uri for track in discover([str(manifest)]).tracks]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("notes", ["", "x" * 200_000])
def test_tables_of_spreadsheets(delimiter: str, encoding: str, notes: str, tmp_path: Path) -> None:
    songs = music(tmp_path)
    rows = [["URI", "track_id", "notes"], ["J\xf3ga.flac", "\xe9n", notes], ["Plain.flac", "", ""], ["", "", ""]]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    (tmp_path / "list.csv").write_bytes(text.encode(encoding))
    assert sorted(uris(tmp_path / "list.csv")) == sorted(songs)
    tracks = {track.uri: track.track_id for track in discover([str(tmp_path / "list.csv")]).tracks}
    assert tracks == {songs[0]: "\xe9n", songs[1]: "Plain.flac"}


def test_a_path_with_dots_in_it_names_the_same_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    music(tmp_path)
    (tmp_path / "list.txt").write_text("Plain.flac\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert [track.track_id for track in discover(["../list.txt"]).tracks] == ["Plain.flac"]


def test_a_table_with_the_line_ends_of_old_macs(tmp_path: Path) -> None:
    songs = music(tmp_path)
    (tmp_path / "list.csv").write_bytes("uri\rJ\xf3ga.flac\rPlain.flac\r".encode())
    assert uris(tmp_path / "list.csv") == songs


def test_a_list_from_a_mac_finds_files_whose_names_are_composed(tmp_path: Path) -> None:
    songs = music(tmp_path)
    (tmp_path / "list.txt").write_text("Jo\u0301ga.flac\n", encoding="utf-8")
    assert uris(tmp_path / "list.txt") == songs[:1]


@pytest.mark.parametrize(
    ("track_ids", "read"),
    [
        (pa.array([2, 5]), ["2", "5"]),
        (pa.array([1.0, None]), ["1", "Plain.flac"]),
        (pa.array([1.0, math.nan]), ["1", "Plain.flac"]),
        (pa.array([b"a", b"b"]), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.nulls(2), ["J\xf3ga.flac", "Plain.flac"]),
    ],
)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_columns_of_any_type(track_ids: Any, read: list[str], kind: Any, tmp_path: Path) -> None:
    music(tmp_path)
    table = {"uri": pa.array(["J\xf3ga.flac", "Plain.flac"]).cast(kind), "track_id": track_ids}
    pq.write_table(pa.table(table), tmp_path / "list.parquet")
    assert [track.track_id for track in discover([str(tmp_path / "list.parquet")]).tracks] == read


def test_a_folder_of_parquet_files_is_one_manifest(tmp_path: Path) -> None:
    songs = music(tmp_path)
    folder = tmp_path / "spark.parquet"
    for number, name in enumerate(("J\xf3ga.flac", "Plain.flac")):
        (folder / f"day={number}").mkdir(parents=True)
        part = folder / f"day={number}" / f"part-0000{number}.snappy.parquet"
        pq.write_table(pa.table({"uri": [f"../../{name}"]}), part)
    (folder / "_SUCCESS").touch()
    (folder / "_metadata.parquet").write_bytes(b"not one")
    assert uris(folder) == songs
    assert uris(tmp_path / "spark.parquet") == songs


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("list.csv", b"name,genre\nx,y\n", "needs a column `uri`; this one has name, genre"),
        ("list.csv", b"", "needs a column `uri`"),
        ("list.csv", b"\r\x01", "needs a column `uri`"),
        ("list.parquet", b"not Parquet", "not a readable Parquet file"),
    ],
)
def test_a_table_that_is_no_manifest_is_one_line(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=message):
        discover([str(tmp_path / name)])
