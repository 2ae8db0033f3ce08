"""Undo gives back what was there, whatever happened to the rest of the file since."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import mutagen
import pyarrow.parquet as pq
import pytest
import tagfiles
from mutagen.id3 import ID3, TCON, TIT2

from genrebeam.pipelines.apply import batch as changes
from genrebeam.pipelines.apply import plan as planning
from genrebeam.pipelines.tags.read import read_genres, read_tags


def hear(output_dir: Path, path: Path, genre: str, number: int = 1) -> None:
    when = tagfiles.WHEN + dt.timedelta(days=number)
    tagfiles.results(
        output_dir,
        {path: [(genre, 0.9)]},
        root=path.parent,
        run_id=f"run-{number}",
        fingerprint=f"fp-{number}",
        when=when,
    )


def song(folder: Path, kind: str = "mp3", genre: str | None = "Rock") -> Path:
    (folder / "music").mkdir()
    path = tagfiles.make(folder / "music", kind, "song")
    tagfiles.fill(path, kind, genre)
    return path


@pytest.mark.parametrize("kind", sorted(tagfiles.MAKERS))
def test_a_title_changed_since_stays_changed(kind: str, tmp_path: Path) -> None:
    path = song(tmp_path, kind, genre=None)
    hear(tmp_path, path, "blues")
    tagfiles.apply_all(tmp_path)
    file: Any = ID3(path) if kind in ("mp3", "tta") else mutagen.File(path)
    tags = file if kind in ("mp3", "tta") else file.tags
    if isinstance(tags, ID3):
        tags["TIT2"] = TIT2(encoding=3, text=["New title"])
    else:
        tags[{"m4a": "\xa9nam", "alac": "\xa9nam"}.get(kind, "title")] = ["New title"]
    file.save(path) if kind in ("mp3", "tta") else file.save()
    assert read_genres(path) == ("Blues",)

    assert tagfiles.apply_all(tmp_path, undo=True).written == 1

    with path.open("rb") as opened:
        values = read_tags(opened)
    assert (values.genres, dict(values.provenance)) == ((), {})
    tags = ID3(path) if kind in ("mp3", "tta") else mutagen.File(path).tags
    title = tags["TIT2"] if isinstance(tags, ID3) else tags[{"m4a": "\xa9nam", "alac": "\xa9nam"}.get(kind, "title")]
    assert str(title if isinstance(title, str) else next(iter(title))) == "New title"


def test_undo_refuses_where_somebody_edited_the_genre(tmp_path: Path) -> None:
    path = song(tmp_path)
    hear(tmp_path, path, "blues")
    tagfiles.apply_all(tmp_path)
    tags = ID3(path)
    tags["TCON"] = TCON(encoding=3, text=["Swing"])
    tags.save(path)
    before = path.read_bytes()
    report = tagfiles.apply_all(tmp_path, undo=True)
    assert dict(report.errors) == {"EditedSince": 1}
    assert path.read_bytes() == before


def test_undo_survives_a_conversion_of_the_whole_tag(tmp_path: Path) -> None:
    path = song(tmp_path, genre=None)
    tags = ID3(path)
    tags.add(TCON(encoding=1, text=["Rock", "Pöp"]))
    tags.update_to_v23()
    tags.save(path, v2_version=3, v23_sep=None)
    hear(tmp_path, path, "blues")
    tagfiles.apply_all(tmp_path)
    assert path.read_bytes()[3] == 3, "the version of the tag stays"
    ID3(path).save(path, v2_version=4)
    assert path.read_bytes()[3] == 4
    assert tagfiles.apply_all(tmp_path, undo=True).written == 1
    assert read_genres(path) == ("Rock", "Pöp")
    assert not ID3(path).getall("TXXX:GENREBEAM_MODEL")


def test_two_models_later_undo_goes_back_to_the_beginning(tmp_path: Path) -> None:
    path = song(tmp_path)
    before = path.read_bytes()
    for number, genre in enumerate(("blues", "jazz", "disco"), 1):
        hear(tmp_path, path, genre, number)
        assert tagfiles.apply_all(tmp_path).written == 1
    assert read_genres(path) == ("Disco",)
    assert tagfiles.apply_all(tmp_path, undo=True).written == 1
    assert path.read_bytes() == before
    assert tagfiles.apply_all(tmp_path, undo=True).outcomes == {"nothing": 1}


def test_undo_stops_at_an_edit_between_two_runs(tmp_path: Path) -> None:
    path = song(tmp_path)
    hear(tmp_path, path, "blues", 1)
    tagfiles.apply_all(tmp_path)
    tags = ID3(path)
    tags["TCON"] = TCON(encoding=3, text=["Swing"])
    tags.save(path)
    hear(tmp_path, path, "jazz", 2)
    assert tagfiles.apply_all(tmp_path).outcomes == {"edited": 1}
    tagfiles.apply_all(tmp_path, respect_edits=False)
    assert read_genres(path) == ("Jazz",)
    assert tagfiles.apply_all(tmp_path, undo=True).written == 1
    assert read_genres(path) == ("Swing",)


def test_apply_after_undo_writes_again(tmp_path: Path) -> None:
    path = song(tmp_path)
    before = path.read_bytes()
    hear(tmp_path, path, "blues")
    tagfiles.apply_all(tmp_path)
    after = path.read_bytes()
    tagfiles.apply_all(tmp_path, undo=True)
    assert tagfiles.apply_all(tmp_path).written == 1
    assert path.read_bytes() == after
    tagfiles.apply_all(tmp_path, undo=True)
    assert path.read_bytes() == before


def test_undo_without_any_apply_has_nothing_to_do(tmp_path: Path) -> None:
    path = song(tmp_path)
    hear(tmp_path, path, "blues")
    assert tagfiles.apply_all(tmp_path, undo=True).outcomes == {}


def test_a_write_that_failed_is_nothing_to_undo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = song(tmp_path)
    hear(tmp_path, path, "blues")

    def fail(change: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(changes, "write", fail)
    assert tagfiles.apply_all(tmp_path).failed == 1
    monkeypatch.undo()
    assert tagfiles.apply_all(tmp_path, undo=True).outcomes == {"nothing": 1}


def test_the_same_genre_from_another_hand_is_no_genre_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write failed, and then the user typed the same word."""
    path = song(tmp_path)
    hear(tmp_path, path, "blues")
    monkeypatch.setattr(changes, "write", lambda change: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    tagfiles.apply_all(tmp_path)
    monkeypatch.undo()
    tags = ID3(path)
    tags["TCON"] = TCON(encoding=3, text=["Blues"])
    tags.save(path)
    assert dict(tagfiles.apply_all(tmp_path, undo=True).errors) == {"EditedSince": 1}
    assert read_genres(path) == ("Blues",)


def test_a_fault_of_ours_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = song(tmp_path)
    other = tagfiles.make(path.parent, "flac", "other")
    tagfiles.results(tmp_path, {p: [("blues", 0.9)] for p in (path, other)}, root=path.parent)
    parse = planning.parse_source

    def stumble(kind: Any, source: Any) -> Any:
        if source.name.endswith(".mp3"):
            raise RuntimeError("a bug")
        return parse(kind, source)

    monkeypatch.setattr(planning, "parse_source", stumble)
    report = tagfiles.apply_all(tmp_path)
    assert (report.written, dict(report.errors)) == (1, {"RuntimeError": 1})


def copied_catalog(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A song that was tagged, and a copy of library and results in which the copied song has been found."""
    path = song(tmp_path)
    hear(tmp_path / "out", path, "blues")
    tagfiles.apply_all(tmp_path / "out")
    shutil.copytree(tmp_path / "music", tmp_path / "music 2")
    shutil.copytree(tmp_path / "out", tmp_path / "out 2")
    copy = tmp_path / "music 2" / path.name
    hear(tmp_path / "out 2", copy, "blues", number=2)
    return path, copy, tmp_path / "out 2"


def test_undo_in_a_copied_catalog_leaves_the_original_alone(tmp_path: Path) -> None:
    path, copy, out = copied_catalog(tmp_path)
    assert tagfiles.apply_all(out, undo=True).outcomes == {"write": 1}
    assert (read_genres(path), read_genres(copy)) == (("Blues",), ("Rock",))
    assert tagfiles.apply_all(tmp_path / "out", undo=True).outcomes == {"write": 1}
    assert read_genres(path) == ("Rock",)


def test_a_results_folder_that_was_moved_still_undoes(tmp_path: Path) -> None:
    path = song(tmp_path)
    hear(tmp_path / "out", path, "blues")
    tagfiles.apply_all(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert tagfiles.apply_all(tmp_path / "elsewhere", undo=True).outcomes == {"write": 1}
    assert read_genres(path) == ("Rock",)


def test_both_files_that_one_dataset_has_tagged_are_restored(tmp_path: Path) -> None:
    path = song(tmp_path)
    hear(tmp_path / "out", path, "blues")
    shutil.copytree(tmp_path / "music", tmp_path / "music 2")
    copy = tmp_path / "music 2" / path.name
    tagfiles.apply_all(tmp_path / "out")
    hear(tmp_path / "out", copy, "blues", number=2)
    tagfiles.apply_all(tmp_path / "out")
    assert (read_genres(path), read_genres(copy)) == (("Blues",), ("Blues",))
    assert tagfiles.apply_all(tmp_path / "out", undo=True).outcomes == {"write": 2}
    assert (read_genres(path), read_genres(copy)) == (("Rock",), ("Rock",))


def test_a_copied_catalog_does_not_clear_up_behind_the_original(tmp_path: Path) -> None:
    path, _, out = copied_catalog(tmp_path)
    for mark in (out / "applied").glob("*.json"):
        mark.unlink()  # as if the folder had been copied while apply was at work
    (name,) = pq.read_table(out / "applied", columns=["temporary"])["temporary"].to_pylist()
    in_the_making = path.with_name(name)
    in_the_making.write_bytes(b"half a song")
    tagfiles.apply_all(out)
    assert in_the_making.exists()
