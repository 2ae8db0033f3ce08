"""Every container, in every state of its tags, under every policy: apply, look, undo.

The audio is compared as decoded samples where FFmpeg decodes the container, and the other fields through mutagen and
as raw bytes; after undo the whole file has to be what it was.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mutagen
import pytest
import tagfiles

from genrebeam.pipelines.tags.parse import parse
from genrebeam.pipelines.tags.read import read_genres, read_tags

POLICIES = ("fill", "merge", "overwrite")
STATES = ("none", "full", "useless", "id3v1", "broken")
# Containers behind which an ID3v1 tag can stand.
_WITH_ID3V1 = ("mp3", "tta", "ape", "mpc", "wv")


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """One file per container and state, made once."""
    folder = tmp_path_factory.mktemp("originals")
    files = {}
    for kind in tagfiles.MAKERS:
        plain = tagfiles.make(folder, kind, f"none-{kind}")
        files[kind, "none"] = plain
        for state in STATES[1:]:
            path = plain.with_name(f"{state}-{kind}{plain.suffix}")
            shutil.copyfile(plain, path)
            if state in ("full", "useless"):
                tagfiles.fill(path, kind, "Jazz" if state == "full" else "Other")
            elif state == "id3v1":
                if kind not in _WITH_ID3V1:
                    continue
                path.write_bytes(path.read_bytes() + tagfiles.id3v1(genre=12))
            else:
                tagfiles.fill(path, kind, "Other")
                tagfiles.break_tag(path, kind)
            files[kind, state] = path
    return files


CASES = [
    (kind, state, policy)
    for kind in tagfiles.MAKERS
    for state in STATES
    for policy in POLICIES
    if state != "id3v1" or kind in _WITH_ID3V1
]


@pytest.mark.parametrize(("kind", "state", "policy"), CASES)
def test_apply_then_undo(kind: str, state: str, policy: str, originals: Any, tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    path = music / originals[kind, state].name
    shutil.copyfile(originals[kind, state], path)
    before, genre_before, others_before = path.read_bytes(), read_genres(path), other_fields(path)
    audio_before = tagfiles.samples(path) if kind in tagfiles.DECODABLE and state != "broken" else b""
    tagfiles.results(tmp_path, {path: [("blues", 0.8)]}, root=music)

    report = tagfiles.apply_all(tmp_path, policy=policy)

    if state == "broken" and report.failed:
        assert path.read_bytes() == before, "a file that cannot be written is left alone"
        assert report.errors["BrokenTag"] == 1
        assert [p.name for p in music.iterdir()] == [path.name]
        return
    assert not report.failed
    expected = {
        "none": ("Blues",),
        "useless": ("Blues",),
        "id3v1": ("Blues",),
        "full": {"fill": ("Jazz",), "merge": ("Jazz", "Blues"), "overwrite": ("Blues",)}[policy],
    }.get(state, ("Blues",))
    assert read_genres(path) == expected
    if expected != genre_before:
        assert report.written == 1
        with path.open("rb") as file:
            assert read_tags(file).provenance["confidence"] == ("Blues 0.80",)
        if state != "broken":
            assert others_before.items() <= other_fields(path).items(), "every other field is there as it was"
        if audio_before:
            assert tagfiles.samples(path) == audio_before
        assert mutagen_opens(path) >= mutagen_opens(originals[kind, state])
        assert tagfiles.apply_all(tmp_path, policy=policy).written == 0, "a second run has nothing to do"
    else:
        assert path.read_bytes() == before

    undone = tagfiles.apply_all(tmp_path, undo=True)

    assert not undone.failed
    assert path.read_bytes() == before, "undo gives back every byte"
    assert [p.name for p in music.iterdir()] == [path.name], "nothing is left beside the file"


def other_fields(path: Path) -> dict[tuple[int, str], list[bytes]]:
    """All raw fields but genre and provenance, by tag and key."""
    try:
        with path.open("rb") as file:
            container = parse(file)
    except Exception:
        return {}
    result: dict[tuple[int, str], list[bytes]] = {}
    for number, tag in enumerate(container.tags):
        for field in tag.fields:
            if not tag.is_ours(field):
                result.setdefault((number, field.key), []).append(field.raw)
    return result


def mutagen_opens(path: Path) -> bool:
    try:
        return mutagen.File(path) is not None
    except mutagen.MutagenError:
        return False
