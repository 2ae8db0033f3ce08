"""Reading genres: told by content, numbers resolved, never an exception for what is no tag."""

from __future__ import annotations

from pathlib import Path

import pytest
import tagfiles

from genrebeam.pipelines.tags.read import read_genres, resolve_genres


@pytest.mark.parametrize("kind", sorted(tagfiles.MAKERS))
def test_every_container_is_read_whatever_its_name(kind: str, tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, kind)
    assert read_genres(path) == ()
    tagfiles.fill(path, kind, "Jazz")
    assert read_genres(path) == ("Jazz",)
    assert read_genres(path.rename(tmp_path / "name.txt")) == ("Jazz",)


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        (["17"], ("Rock",)),
        (["(17)"], ("Rock",)),
        (["(17)Hard"], ("Rock", "Hard")),
        (["(17)(8)"], ("Rock", "Jazz")),
        (["255"], ("Unknown",)),
        (["Rock", "Rock", " "], ("Rock",)),
        (["Hip Hop/Rap"], ("Hip Hop/Rap",)),
        ([], ()),
    ],
)
def test_references_become_names(stored: list[str], meant: tuple[str, ...]) -> None:
    assert resolve_genres(stored) == meant


def test_id3v1_speaks_where_nothing_else_does(tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, "mp3")
    path.write_bytes(path.read_bytes() + tagfiles.id3v1(genre=9))
    assert read_genres(path) == ("Metal",)
    tagfiles.fill(path, "mp3", "Jazz")
    assert read_genres(path) == ("Jazz",)


def test_what_is_no_music_has_no_genre(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp3"
    for content in (b"", b"hello", b"ID3", b"\xff\xfb", b"fLaC", b"OggS", b"RIFF\0\0\0\0WAVE", bytes(10_000)):
        path.write_bytes(content)
        assert read_genres(path) == ()


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_genres(tmp_path / "absent.mp3")
