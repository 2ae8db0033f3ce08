"""Every family of tags that can stand in a container is seen and changed, and none is hidden by another."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import families
import fuzz
import mutagen
import pytest
import tagfiles
from commandline import ROOT
from mutagen.id3 import TIT2

from genrebeam.pipelines.tags.families import APE, CHUNK, COMMENTS, ID3V1, ID3V2, INFO, TABLE, Families
from genrebeam.pipelines.tags.read import read_genres

NAMES = sorted(families.FAMILIES)


def apply(path: Path, output: Path, policy: str, *, heard: str = "blues") -> Any:
    tagfiles.results(output, {path: [(heard, 0.9)]}, root=path.parent)
    return tagfiles.apply_all(output, policy=policy)


@pytest.mark.parametrize("name", NAMES)
def test_the_genre_of_every_family_is_seen(name: str, tmp_path: Path) -> None:
    path = families.make(tmp_path, name)
    before = path.read_bytes()
    assert "Rock" in read_genres(path)
    assert apply(path, tmp_path / "out", "fill").outcomes == {"kept": 1}
    assert path.read_bytes() == before


@pytest.mark.parametrize("policy", ["merge", "overwrite"])
@pytest.mark.parametrize("name", NAMES)
def test_all_families_say_the_new_genre_and_nothing_else_is_lost(name: str, policy: str, tmp_path: Path) -> None:
    path = families.make(tmp_path, name)
    before, data, theirs = witnesses(path), path.read_bytes(), read_genres(path)

    assert apply(path, tmp_path / "out", policy).written == 1

    meant = [*theirs, "Blues"] if policy == "merge" else ["Blues"]
    assert read_genres(path) == tuple(meant)
    after = witnesses(path)
    assert not list(fuzz.lost(before, after))
    assert not list(fuzz.stale(after, meant))
    assert apply(path, tmp_path / "out", policy).outcomes == {"same": 1}
    assert tagfiles.apply_all(tmp_path / "out", undo=True).written == 1
    assert path.read_bytes() == data


def witnesses(path: Path) -> dict[str, dict[str, str]]:
    (shown,) = fuzz.reading()(str(path))
    return dict(shown)


@pytest.mark.parametrize("editor", ["mutagen", "taglib"])
def test_a_wav_whose_title_somebody_changed_loses_only_our_genre(editor: str, tmp_path: Path) -> None:
    path = families.make(tmp_path, "wav: LIST INFO")
    assert apply(path, tmp_path / "out", "overwrite").written == 1
    if editor == "mutagen":
        file: Any = mutagen.File(path)
        file.tags["TIT2"] = TIT2(encoding=3, text=["New title"])
        file.save()
    else:
        taglib = pytest.importorskip("taglib", reason="pytaglib is not installed: TagLib as an editor was NOT tried")
        with taglib.File(str(path)) as file:
            file.tags["TITLE"] = ["New title"]
            file.save()
    assert read_genres(path) == ("Blues",)

    assert tagfiles.apply_all(tmp_path / "out", undo=True).written == 1

    assert read_genres(path) == ("Rock",)
    shown = witnesses(path)
    assert shown["FFmpeg"]["title"] == "New title"
    assert shown["FFmpeg"]["artist"] == "Artist"
    assert not [key for reader in shown.values() for key in reader if "GENREBEAM" in key.upper()]


@pytest.mark.parametrize("end", ["odd", "zeros"])
def test_list_info_with_an_end_of_its_own_kind_is_read_and_changed(end: str, tmp_path: Path) -> None:
    path = families.make(tmp_path, "wav: LIST INFO")
    data = path.read_bytes()
    at = data.index(b"LIST")
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    if end == "odd":  # the last text without its pad byte, which then stands behind the chunk
        assert data.endswith(b"Rock\0\0")
        data = data[: at + 4] + (size - 1).to_bytes(4, "little") + data[at + 8 :]
    else:
        data = data[:4] + (len(data) - 4).to_bytes(4, "little") + data[8 : at + 4]
        data += (size + 4).to_bytes(4, "little") + path.read_bytes()[at + 8 :] + bytes(4)
    path.write_bytes(data)
    assert apply(path, tmp_path / "out", "overwrite").written == 1
    shown = witnesses(path)
    assert shown["FFmpeg"]["title"] == "Title" and not list(fuzz.stale(shown, ["Blues"]))
    assert tagfiles.apply_all(tmp_path / "out", undo=True).written == 1
    assert path.read_bytes() == data


# The table


def test_the_table_in_the_documentation_is_the_one_in_the_code() -> None:
    columns = lambda row: [row.container, *(", ".join(f) for f in (row.here, row.taglib, row.ffmpeg, row.mutagen))]  # noqa: E731
    rows = [f"| {' | '.join(columns(row))} |" for row in TABLE]
    text = (ROOT / "docs" / "tags.md").read_text(encoding="utf-8")
    assert "\n".join(["| container | families | TagLib | FFmpeg | mutagen |", "|---|---|---|---|---|", *rows]) in text


ADD: dict[str, Callable[[Path, str], None]] = {  # in the order in which they can be added
    COMMENTS: families.add_comments,
    APE: families.add_ape,
    INFO: families.add_info,
    CHUNK: families.add_id3_chunk,
    ID3V2: families.add_front,
    ID3V1: families.add_v1,
}
MADE = {
    "MP3": ".mp3",
    "AAC": ".aac",
    "TTA": ".tta",
    "Monkey's Audio, WavPack, Musepack, OptimFROG, TAK": ".mpc",
    "FLAC": ".flac",
    "Ogg": ".ogg",
    "WAV": ".wav",
}


def title_for(program: str, path: Path) -> str | None:
    """The title that a program shows; raises where it cannot open the file."""
    if program == "taglib":
        taglib = pytest.importorskip("taglib", reason="pytaglib is not installed: the preferences of TagLib NOT tried")
        with taglib.File(str(path)) as file:
            return next(iter(file.tags.get("TITLE", [None])))
    if program == "ffmpeg":
        with av.open(str(path)) as container:
            shown = dict(container.metadata)
            for stream in container.streams:
                shown |= stream.metadata
        return next((value for key, value in shown.items() if key.lower() == "title"), None)
    file = mutagen.File(path)
    found = [file.tags[key] for key in ("TIT2", "Title", "title") if file.tags is not None and key in file.tags]
    return str(found[0][0] if isinstance(found[0], list) else found[0]) if found else None


@pytest.mark.parametrize("row", [row for row in TABLE if row.container in MADE], ids=lambda row: row.container)
@pytest.mark.parametrize("program", ["taglib", "ffmpeg", "mutagen"])
def test_programs_prefer_what_the_table_says(program: str, row: Families, tmp_path: Path) -> None:
    order: tuple[str, ...] = getattr(row, program)
    path = tmp_path / f"song{MADE[row.container]}"
    opened = 0
    for count in range(1, len(row.here) + 1):
        for there in itertools.combinations(row.here, count):
            if path.suffix == ".aac":
                families.muxed(path, "adts", "aac")
            else:
                tagfiles.MAKERS[path.suffix[1:]](path)
            for family, add in ADD.items():
                if family in there:
                    add(path, family)
            try:
                shown = title_for(program, path)
            except Exception:
                assert ID3V2 in there, "only a tag in front of what knows none keeps a program from opening the file"
                continue
            opened += 1
            assert shown == next((family for family in order if family in there), None), there
            os.unlink(path)
    assert opened
