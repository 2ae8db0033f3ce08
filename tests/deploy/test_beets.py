"""The beets plugin in the real beets: genres are filled at import and by the command, and only where there are none."""

import json
import os
import subprocess
import sys

import mutagen
import pytest
import synth
from commandline import ROOT

from genrebeam.model.bundle import DEFAULT, load_config
from genrebeam.pipelines.tags.policy import spelled

pytest.importorskip("beets", reason="SKIPPED: the beets plugin, for want of beets (pip install 'genrebeam[test]')")

LABELS = {spelled(label) for label in load_config(DEFAULT).labels}


class Beets:
    def __init__(self, folder, **options):
        self.folder = folder
        config = {
            "directory": str(folder / "library"),
            "library": str(folder / "library.db"),
            "pluginpath": str(ROOT / "deploy" / "beets" / "beetsplug"),
            "plugins": ["genrebeam"],
            "genrebeam": {"min_confidence": 0.0, "max_unknown": 1.0, **options},
            "import": {"copy": True, "write": True},
        }
        (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML

    def __call__(self, *args):
        env = os.environ | {"BEETSDIR": str(self.folder), "PYTHONPATH": str(ROOT), "HOME": str(self.folder)}
        run = subprocess.run(
            [sys.executable, "-m", "beets", *args], env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert run.returncode == 0, run.stderr
        return run.stdout + run.stderr

    def genres(self):
        lines = self("ls", "-f", "$title\t$genres").splitlines()
        return dict(line.split("\t") for line in lines if "\t" in line)


def song(path, title, genre=None):
    path.parent.mkdir(exist_ok=True)
    synth.write(path, synth.music(9.0, seed=len(title)))
    tags = mutagen.File(path)
    tags["title"] = title
    tags["artist"] = tags["album"] = "synth"
    if genre:
        tags["genre"] = genre
    tags.save()


@pytest.fixture
def music(tmp_path):
    song(tmp_path / "new" / "a.flac", "empty")
    song(tmp_path / "new" / "b.flac", "taken", "Zydeco")
    song(tmp_path / "new" / "ç d.flac", "useless", "Other")
    return tmp_path / "new"


def test_an_import_fills_what_is_empty_and_leaves_the_rest(tmp_path, music):
    beet = Beets(tmp_path)
    beet("import", "-A", "-q", str(music))
    genres = beet.genres()
    assert genres["empty"] in LABELS
    assert genres["taken"] == "Zydeco"
    assert genres["useless"] in LABELS
    beet("write")  # beets leaves the files of an import with -A alone until it is told to write
    (file,) = (tmp_path / "library").rglob("*empty.flac")
    assert mutagen.File(file)["genre"] == [genres["empty"]]
    assert "genre" not in mutagen.File(music / "a.flac")  # the source is not the library's


def test_the_command_fills_pretends_and_forces(tmp_path, music):
    beet = Beets(tmp_path, auto=False)
    beet("import", "-A", "-q", str(music))
    before = {"empty": "", "taken": "Zydeco", "useless": "Other"}
    assert beet.genres() == before
    assert "empty: " in beet("genrebeam", "--pretend")
    assert beet.genres() == before
    beet("genrebeam")
    assert beet.genres()["empty"] in LABELS and beet.genres()["taken"] == "Zydeco"
    beet("genrebeam", "--force")
    assert beet.genres()["taken"] in LABELS


def test_what_is_unsure_or_broken_or_without_a_model_is_said_and_left_alone(tmp_path, music):
    Beets(tmp_path, auto=False)("import", "-A", "-q", str(music))
    unsure = Beets(tmp_path, min_confidence=1.1)
    assert "unsure, left alone" in unsure("-v", "genrebeam")
    (file,) = (tmp_path / "library").rglob("*empty.flac")
    file.write_bytes(b"text")
    assert "not heard: " in unsure("genrebeam")
    assert "no such model bundle" in Beets(tmp_path, model=str(tmp_path / "none"))("genrebeam")
    assert unsure.genres()["empty"] == ""
