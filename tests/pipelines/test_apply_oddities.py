"""Real files of other people: apply and undo give every byte back, or the file is refused and left alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tagfiles

from genrebeam.pipelines.tags.read import read_genres

SHARED = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.shared


@pytest.mark.parametrize("folder", ["oddities", "library"])
def test_apply_and_undo(folder: str, tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: the real files were NOT tried")
    music = tmp_path / "music"
    music.mkdir()
    originals = {}
    for number, path in enumerate(sorted((SHARED / folder).rglob("*"))):
        if path.is_file() and path.suffix not in (".txt", ".csv"):
            copy = music / f"{number:04d}-{path.name}"
            shutil.copyfile(path, copy)
            originals[copy] = path.read_bytes()
    tagfiles.results(tmp_path, {path: [("blues", 0.9)] for path in originals}, root=music)

    report = tagfiles.apply_all(tmp_path, workers=2)

    assert set(report.errors) <= {"NotTaggable", "BrokenTag"}, "nothing fails for another reason"
    assert report.written >= 0.9 * len(originals)
    tagged = [path for path in originals if read_genres(path) == ("Blues",)]
    assert len(tagged) == report.written + report.outcomes["same"]

    undone = tagfiles.apply_all(tmp_path, undo=True, workers=2)

    assert undone.written == report.written
    assert all(path.read_bytes() == data for path, data in originals.items())
    assert len(list(music.iterdir())) == len(originals)
