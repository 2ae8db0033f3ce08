"""--json: one object on standard output, with the documented fields and no others."""

import json
import re

import pytest
import synth
import tagfiles
from commandline import ROOT, genrebeam

DOCUMENT = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")


def documented(section):
    """The fields in the table of a section of docs/json.md."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} | {"version"}


def printed_by(*arguments, code=0):
    process = genrebeam(*arguments, "--json", code=code)
    (line,) = process.stdout.splitlines()
    return json.loads(line)


@pytest.fixture
def out(tmp_path):
    path = tagfiles.make(tmp_path, "mp3", "a")
    tagfiles.fill(path, "mp3", None)
    tagfiles.results(tmp_path / "out", {path: [("hiphop", 0.9)]}, root=tmp_path)
    return tmp_path / "out"


def test_apply_and_undo_say_what_they_do(out):
    planned = printed_by("apply", out, "--dry-run")
    assert planned["changes"] == [{"track_id": "a.mp3", "before": [], "after": ["Hip-Hop"]}]
    assert planned["dry_run"] is True
    done = printed_by("apply", out, "--yes")
    assert (done["dry_run"], done["outcomes"]["write"], done["changes"]) == (False, 1, [])
    again = printed_by("apply", out, "--yes")
    assert (again["outcomes"]["write"], again["outcomes"]["same"]) == (0, 1)
    taken_back = printed_by("undo", out, "--yes")
    assert taken_back["outcomes"]["write"] == 1
    for said in (planned, done, again, taken_back):
        assert said["version"] == 1
        assert set(said) == documented("apply, undo")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("changes.csv", "track_id,before,after\na.mp3,,Hip-Hop\n"),
        ("changes.json", [{"track_id": "a.mp3", "before": [], "after": ["Hip-Hop"]}]),
    ],
)
def test_a_dry_run_writes_all_its_changes(out, tmp_path, name, says):
    assert printed_by("apply", out, "--dry-run", "--output", tmp_path / name)["genres"] == {"Hip-Hop": 1}
    text = (tmp_path / name).read_text()
    assert (json.loads(text) if name.endswith("json") else text) == says


@pytest.mark.parametrize("arguments", [("--yes", "--output", "x.csv"), ("--dry-run", "--output", "x.txt")])
def test_a_list_of_changes_is_of_a_dry_run_and_of_a_known_kind(out, arguments):
    assert "--output goes with --dry-run" in genrebeam("apply", out, *arguments, code=2).stderr


def test_correct_says_what_is_stored(out):
    said = printed_by("correct", out, "a.mp3", "Rock;Metal ", "--by", "me")
    assert said == {"version": 1, "track_id": "a.mp3", "genre": "Rock; Metal", "by": "me"}
    assert printed_by("correct", out, "a.mp3", "--withdraw")["genre"] is None
    assert set(said) == documented("correct")


def test_report_says_its_numbers(out, tmp_path):
    said = printed_by("report", out, "--output", tmp_path / "page.html")
    assert said["genres"] == {"hiphop": {"tracks": 1, "hours": pytest.approx(0, abs=1)}}
    assert said["page"] == str(tmp_path / "page.html")
    assert set(said) == documented("report")


def test_tag_says_its_numbers_and_what_was_written(tmp_path):
    synth.write(tmp_path / "music" / "a.wav", synth.music(9.0, seed=1))
    (tmp_path / "music" / "b.mp3").write_bytes(b"no music" * 100)
    arguments = ["tag", tmp_path / "music", "--output", tmp_path / "out", "--workers", "1"]
    planned = printed_by(*arguments, "--dry-run")
    assert (planned["status"], planned["to_analyse"]) == ("dry run", 2)
    said = printed_by(*arguments, "--write-tags", "fill", "--yes", code=3)
    assert (said["tagged"], said["rejected"], sum(said["genres"].values())) == (1, 1, 1)
    assert set(said) | {"template"} == documented("tag")
    assert set(said["apply"]) | {"version"} == documented("apply, undo")
    assert printed_by(*arguments)["done_before"] == 2


def test_an_error_leaves_standard_output_empty(tmp_path):
    process = genrebeam("apply", tmp_path, "--dry-run", "--json", code=2)
    assert process.stdout == ""
