"""The catalog behind the pages: filters, order, what counts, numbers, and what a run or a person adds meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import tagfiles

from genrebeam.app import catalog as catalogs
from genrebeam.app.catalog import ORDERS, Catalog, Filter, numbers
from genrebeam.app.hearing import safe_name
from genrebeam.features.errors import UsageError
from genrebeam.features.schema import Track
from genrebeam.pipelines.dataset.corrections import correct, read_corrections

HEARD = {
    "A/one.mp3": [("rock", 0.9), ("jazz", 0.1)],
    "A/two.mp3": [("jazz", 0.3)],
    "B/three %_x.mp3": [("rock", 0.6)],
    "four.mp3": [("blues", 0.6)],
}


def results(folder: Path, heard=HEARD, run_id: str = "run-1") -> Path:
    tracks = {Track(f"/music/{name}", name, 1, 0.0): genres for name, genres in heard.items()}
    tagfiles.results_of_tracks(folder, tracks, run_id=run_id)
    return folder


@pytest.fixture
def catalog(tmp_path):
    return Catalog(results(tmp_path))


def found(catalog: Catalog, **wanted) -> list[str]:
    view = catalog.view()
    return [row["track_id"] for row in view.page(view.find(Filter(**wanted)))]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, ["A/two.mp3", "B/three %_x.mp3", "four.mp3", "A/one.mp3"]),
        ({"order": ORDERS[1]}, ["A/one.mp3", "B/three %_x.mp3", "four.mp3", "A/two.mp3"]),
        ({"order": ORDERS[2]}, ["A/one.mp3", "A/two.mp3", "B/three %_x.mp3", "four.mp3"]),
        ({"genres": ("rock",)}, ["B/three %_x.mp3", "A/one.mp3"]),
        ({"genres": ("rock", "blues"), "confidence": (0.6, 0.6)}, ["B/three %_x.mp3", "four.mp3"]),
        ({"folder": "A/"}, ["A/two.mp3", "A/one.mp3"]),
        ({"text": "THREE %_"}, ["B/three %_x.mp3"]),
        ({"text": ".*"}, []),
        ({"corrected": True}, []),
        ({"corrected": False, "folder": "four"}, ["four.mp3"]),
    ],
)
def test_filters_and_orders(catalog, wanted, names):
    assert found(catalog, **wanted) == names


def test_a_persons_word_counts_is_a_genre_of_the_catalog_and_can_be_withdrawn(catalog, tmp_path):
    catalog.say("four.mp3", "Zouk", by="Ada")
    assert read_corrections(tmp_path)["four.mp3"][::2] == ("Zouk", "Ada")
    assert found(catalog, genres=("Zouk",)) == found(catalog, corrected=True) == ["four.mp3"]
    assert "Zouk" in catalog.view().genres() and "blues" not in catalog.view().genres()
    assert catalog.view().track("four.mp3")["genre"] == "blues"  # what was heard stays
    catalog.say("four.mp3", None, by="Ada")
    assert found(catalog, corrected=True) == [] and "blues" in catalog.view().genres()


def test_what_others_add_is_seen(catalog, tmp_path, monkeypatch):
    correct(tmp_path, "four.mp3", "Zouk")
    results(tmp_path, {"five.mp3": [("pop", 0.5)]}, run_id="run-2")
    assert found(catalog, genres=("Zouk",)) == ["four.mp3"]
    assert catalog.view().track("five.mp3") is None  # results are looked for now and then
    monkeypatch.setattr(catalogs, "_REREAD_S", 0.0)
    assert catalog.view().track("five.mp3")["genre"] == "pop"


@pytest.mark.parametrize("name", ["/etc/passwd", "../four.mp3", "A/../four.mp3", "", "/music/four.mp3"])
def test_what_is_no_track_of_the_catalog_is_nothing(catalog, name):
    assert catalog.view().track(name) is None
    view = catalog.view()
    assert view.position(view.find(Filter()), name) is None


def test_numbers(catalog):
    catalog.say("four.mp3", "Zouk", by="")
    catalog.say("A/one.mp3", "Rock", by="")
    shown = numbers(catalog.view())
    assert (shown.tracks, shown.said, shown.right) == (4, 2, 1)
    assert shown.genres == {"Rock": 1, "jazz": 1, "rock": 1, "Zouk": 1}
    assert shown.folders[0] == ("A", 2, "Rock 1, jazz 1") and ("(none)", 1, "Zouk 1") in shown.folders
    assert shown.confidence == [0, 0, 0, 1, 0, 0, 2, 0, 0, 1]


def test_a_folder_without_results_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="no results here"):
        Catalog(tmp_path)


@pytest.mark.parametrize(
    ("sent", "safe"),
    [
        ("a.mp3", "a.mp3"), ("../../x.mp3", "x.mp3"), ("C:\\music\\x.mp3", "x.mp3"), ("..", "upload"), ("", "upload"),
        ("a\0b\n.mp3", "ab.mp3"), ("é" * 300 + ".mp3", "é" * 56 + ".mp3"),
    ],
)  # fmt: skip
def test_names_that_were_sent_are_names_only(sent, safe):
    assert safe_name(sent) == safe
