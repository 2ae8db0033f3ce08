"""What a person says of a track counts for more than what the model heard, and the results stay as they are."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tagfiles
from commandline import exit_code_of

from genrebeam.features.errors import LedgerError, UsageError
from genrebeam.pipelines.dataset.corrections import Corrections, correct, read_corrections
from genrebeam.pipelines.dataset.dataset import Dataset
from genrebeam.pipelines.dataset.ledger import newest_results
from genrebeam.pipelines.dataset.schema import CORRECTIONS, RESULTS
from genrebeam.pipelines.tags.read import TagValues, read_genres, read_tags


@pytest.fixture
def songs(tmp_path: Path) -> list[Path]:
    """Two files that the model heard as blues, one sure and one not; the first says Rock."""
    (tmp_path / "music").mkdir()
    paths = [tagfiles.make(tmp_path / "music", "mp3", name) for name in ("one", "two")]
    tagfiles.fill(paths[0], "mp3", "Rock")
    tagfiles.fill(paths[1], "mp3", None)
    heard = {paths[0]: [("blues", 0.9)], paths[1]: [("blues", 0.2)]}
    tagfiles.results(tmp_path / "out", heard, root=tmp_path / "music")
    return paths


def read_tags_of(path: Path) -> TagValues:
    with path.open("rb") as file:
        return read_tags(file)


@pytest.mark.parametrize("by_path", [False, True])
def test_a_track_is_named_by_its_path_or_its_id(songs, tmp_path, by_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path / "music")
    track = songs[0].name if not by_path else f"../music/{songs[0].name}"
    assert exit_code_of("correct", tmp_path / "out", track, "Zouk", "--by", "Ada") == 0
    said = read_corrections(tmp_path / "out")[songs[0].name]
    assert (said.genre, said.by) == ("Zouk", "Ada")
    assert songs[0].name in capsys.readouterr().out


def test_the_newest_counts_and_the_results_stay(songs, tmp_path):
    before = newest_results(tmp_path / "out").to_pylist()
    for genre in ("Zouk", "Kizomba"):
        correct(tmp_path / "out", songs[0].name, genre)
    assert read_corrections(tmp_path / "out")[songs[0].name].genre == "Kizomba"
    assert newest_results(tmp_path / "out").to_pylist() == before


def test_the_newest_counts_whatever_its_file_is_called(songs, tmp_path):
    correct(tmp_path / "out", songs[0].name, "Zouk")
    later = dt.datetime(2999, 1, 1, tzinfo=dt.timezone.utc)
    row = {"track_id": songs[0].name, "genre": "Kizomba", "corrected_at": later, "corrected_by": None}
    pq.write_table(pa.Table.from_pylist([row], CORRECTIONS), tmp_path / "out" / "corrections" / "0-a.parquet")
    assert read_corrections(tmp_path / "out")[songs[0].name] == ("Kizomba", later, "")


def test_files_of_an_older_genrebeam_are_read_under_the_new_names(songs, tmp_path):
    name, other = songs[0].name, songs[1].name
    dataset = Dataset.at(tmp_path / "out")
    when = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    old = pa.table(
        {"track_id": [name], "genre": ["Zouk"], "at": pa.array([when], pa.timestamp("us", "UTC")), "by": ["me"]}
    )
    (tmp_path / "out" / "corrections").mkdir()
    pq.write_table(old, tmp_path / "out" / "corrections" / "20200101-a.parquet")
    assert read_corrections(dataset) == {name: ("Zouk", when, "me")}
    correct(dataset, other, "Kizomba")
    assert {track_id: one.genre for track_id, one in read_corrections(dataset).items()} == {
        name: "Zouk",
        other: "Kizomba",
    }
    dataset.add("corrections", "20200101", dataset.rows("corrections").to_pylist())
    dataset.merge("corrections")
    assert read_corrections(dataset)[name] == ("Zouk", when, "me")
    for file in (tmp_path / "out" / "corrections").iterdir():
        assert {"corrected_at", "corrected_by"} <= set(pq.read_schema(file).names) or file.name == "20200101-a.parquet"


# What becomes of a file that says Rock, or nothing, when a person says this: docs/tags.md has the same table.
@pytest.mark.parametrize(
    ("policy", "says", "rock", "empty"),
    [
        ("none", "Zouk", ("Rock",), ()),
        ("fill", "Zouk", ("Rock",), ("Zouk",)),
        ("merge", "Zouk", ("Rock", "Zouk"), ("Zouk",)),
        ("overwrite", "Zouk", ("Zouk",), ("Zouk",)),
        ("fill", "tropical house; zouk", ("Rock",), ("tropical house", "zouk")),
        ("merge", "zouk; rock", ("Rock", "zouk"), ("zouk", "rock")),
        ("overwrite", "rock", ("rock",), ("rock",)),  # the person's spelling
    ],
)
def test_apply_writes_corrections_before_any_prediction_and_undo_takes_them_back(
    songs, tmp_path, policy, says, rock, empty
):
    before = [path.read_bytes() for path in songs]
    for path in songs:  # of the second the model is not sure, which does not matter
        correct(tmp_path / "out", path.name, says)
    changes = (rock != ("Rock",)) + (empty != ())
    assert tagfiles.apply_all(tmp_path / "out", policy=policy).written == changes
    assert [read_genres(path) for path in songs] == [rock, empty]
    assert tagfiles.apply_all(tmp_path / "out", policy=policy).written == 0
    assert tagfiles.apply_all(tmp_path / "out", undo=True).written == changes
    assert [path.read_bytes() for path in songs] == before


def test_fill_holds_a_correction_back_where_somebody_else_put_a_genre_and_says_so(songs, tmp_path, capsys):
    correct(tmp_path / "out", songs[0].name, "Zouk")
    assert exit_code_of("apply", tmp_path / "out", "--yes") == 0
    assert "--only-corrected --write-tags overwrite" in capsys.readouterr().out
    correct(tmp_path / "out", songs[0].name, "rock")  # which it says already
    assert exit_code_of("apply", tmp_path / "out", "--yes") == 0
    assert "held" not in capsys.readouterr().out
    assert read_genres(songs[0]) == ("Rock",)


def test_only_corrected_leaves_every_other_track_alone(songs, tmp_path):
    correct(tmp_path / "out", songs[1].name, "Zouk")
    arguments = (
        "--only-corrected",
        "--write-tags",
        "overwrite",
        "--min-confidence",
        "0",
        "--max-unknown",
        "1",
        "--yes",
    )
    assert exit_code_of("apply", tmp_path / "out", *arguments) == 0
    assert [read_genres(path) for path in songs] == [("Rock",), ("Zouk",)]


def test_our_mark_says_that_a_person_said_so(songs, tmp_path):
    correct(tmp_path / "out", songs[1].name, "Zouk")
    tagfiles.apply_all(tmp_path / "out")
    provenance = read_tags_of(songs[1]).provenance
    assert provenance["model"] == ("correction",) and "fingerprint" not in provenance


def test_a_withdrawn_correction_counts_no_more_and_the_prediction_comes_back(songs, tmp_path, capsys):
    assert exit_code_of("correct", tmp_path / "out", songs[0].name, "--withdraw") == 2
    assert "nobody has corrected it" in capsys.readouterr().err
    correct(tmp_path / "out", songs[0].name, "Zouk")
    tagfiles.apply_all(tmp_path / "out")
    assert exit_code_of("correct", tmp_path / "out", songs[0].name, "--withdraw") == 0
    assert not read_corrections(tmp_path / "out")
    tagfiles.apply_all(tmp_path / "out")
    assert read_genres(songs[0]) == ("Blues",)
    assert exit_code_of("correct", tmp_path / "out", songs[0].name, "Zouk", "--withdraw") == 2
    assert exit_code_of("correct", tmp_path / "out", songs[0].name) == 2


def test_apply_gathers_the_files_of_a_day_and_loses_nothing(songs, tmp_path):
    reader = Corrections(Dataset.at(tmp_path / "out")).refresh()
    for genre in ("Zouk", "Kizomba", "Samba"):
        correct(tmp_path / "out", songs[0].name, genre)
    reader.refresh()
    exit_code_of("apply", tmp_path / "out", "--yes", "--quiet")
    assert len(list((tmp_path / "out" / "corrections").iterdir())) <= 2  # two where midnight passed meanwhile
    assert read_corrections(tmp_path / "out")[songs[0].name].genre == "Samba"
    correct(tmp_path / "out", songs[1].name, "Zouk")
    assert {name: one.genre for name, one in reader.refresh().newest.items()} == {"one.mp3": "Samba", "two.mp3": "Zouk"}


def test_a_correction_replaces_what_we_wrote_earlier(songs, tmp_path):
    tagfiles.apply_all(tmp_path / "out")
    assert read_genres(songs[0]) == ("Blues",)
    correct(tmp_path / "out", songs[0].name, "Zouk")
    tagfiles.apply_all(tmp_path / "out")
    assert read_genres(songs[0]) == ("Zouk",)


@pytest.mark.parametrize(
    ("said", "written"),
    [("hiphop", "Hip-Hop"), ("hip hop", "Hip-Hop"), ("RAP", "Hip-Hop"), ("jazz", "Swing"), ("salsa", "salsa")],
)
def test_a_confirmed_genre_is_spelled_and_mapped_as_a_predicted_one(songs, tmp_path, said, written):
    file = tmp_path / "out" / "results" / "run-1.parquet"
    rows = [row | {"labels": ["blues", "hiphop", "jazz"]} for row in pq.read_table(file).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, RESULTS), file)
    names = tmp_path / "names.txt"
    names.write_text("jazz = Swing\nsalsa = Merengue\n")
    correct(tmp_path / "out", songs[1].name, said)
    assert exit_code_of("apply", tmp_path / "out", "--yes", "--genre-map", names) == 0
    assert read_genres(songs[1]) == (written,)


def test_an_edit_in_the_file_is_respected(songs, tmp_path):
    tagfiles.apply_all(tmp_path / "out")
    tagfiles.fill(songs[0], "mp3", "Jazz")
    correct(tmp_path / "out", songs[0].name, "Zouk")
    tagfiles.apply_all(tmp_path / "out")
    assert read_genres(songs[0]) == ("Jazz",)


@pytest.mark.parametrize("genre", ["", "  ", " ; ", "two\nlines", "nul\0", "x" * 201])
def test_what_no_tag_could_hold_is_refused(songs, tmp_path, genre):
    with pytest.raises(UsageError):
        correct(tmp_path / "out", songs[0].name, genre)
    assert not read_corrections(tmp_path / "out")


def test_an_unknown_track_and_a_folder_without_results_get_one_line(songs, tmp_path, capsys):
    assert exit_code_of("correct", tmp_path / "out", "three.mp3", "Zouk") == 2
    assert exit_code_of("correct", tmp_path / "music", songs[0].name, "Zouk") == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 2 and "three.mp3" in shown[0] and "no results here" in shown[1]


def test_a_damaged_file_is_named(songs, tmp_path):
    correct(tmp_path / "out", songs[0].name, "Zouk")
    next((tmp_path / "out" / "corrections").iterdir()).write_bytes(b"PAR1")
    with pytest.raises(LedgerError, match="corrections"):
        read_corrections(tmp_path / "out")
