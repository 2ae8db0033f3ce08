"""The catalog behind the pages: filters, order, what counts, and what a run or a person adds meanwhile."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import tagfiles
from hypothesis import given
from hypothesis import strategies as st

from genrebeam.app import catalog as catalogs
from genrebeam.app.catalog import ORDERS, Catalog, Filter
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
        ({"descending": True}, ["A/one.mp3", "B/three %_x.mp3", "four.mp3", "A/two.mp3"]),
        ({"order": "track_id"}, ["A/one.mp3", "A/two.mp3", "B/three %_x.mp3", "four.mp3"]),
        ({"order": "title"}, ["four.mp3", "A/one.mp3", "B/three %_x.mp3", "A/two.mp3"]),
        ({"order": "artist"}, ["A/one.mp3", "A/two.mp3", "B/three %_x.mp3", "four.mp3"]),
        ({"order": "artist", "descending": True}, ["B/three %_x.mp3", "A/one.mp3", "A/two.mp3", "four.mp3"]),
        ({"genres": ("rock",)}, ["B/three %_x.mp3", "A/one.mp3"]),
        ({"genres": ("rock", "blues"), "confidence": (0.6, 0.6)}, ["B/three %_x.mp3", "four.mp3"]),
        ({"folder": "A/"}, ["A/two.mp3", "A/one.mp3"]),
        ({"text": "THREE %_"}, ["B/three %_x.mp3"]),
        ({"text": "one a"}, ["A/one.mp3"]),
        ({"text": ".*"}, []),
        ({"shown": "corrected"}, []),
        ({"shown": "open", "folder": "four"}, ["four.mp3"]),
        ({"shown": "untagged"}, ["A/two.mp3", "B/three %_x.mp3", "four.mp3", "A/one.mp3"]),
        ({"shown": "unsure"}, ["A/two.mp3"]),
    ],
)
def test_filters_and_orders(catalog, wanted, names):
    assert found(catalog, **wanted) == names


@pytest.mark.parametrize("wanted", [{"order": "colour"}, {"shown": "everything"}])
def test_what_cannot_be_listed_is_one_line(wanted):
    with pytest.raises(UsageError, match="choose one of"):
        Filter(**wanted)


def test_a_persons_word_counts_is_a_genre_of_the_catalog_and_can_be_withdrawn(catalog, tmp_path):
    catalog.say({"four.mp3": "Zouk"}, by="Ada")
    assert read_corrections(tmp_path)["four.mp3"][::2] == ("Zouk", "Ada")
    assert found(catalog, genres=("Zouk",)) == found(catalog, shown="corrected") == ["four.mp3"]
    assert "Zouk" in catalog.view().genres and "blues" not in catalog.view().genres
    assert catalog.view().track("four.mp3")["genre"] == "blues"  # what was heard stays
    catalog.say({"four.mp3": None}, by="Ada")
    assert found(catalog, shown="corrected") == [] and "blues" in catalog.view().genres


def test_spellings_of_what_was_heard_are_one_genre(catalog):
    catalog.say({"four.mp3": "Rock", "A/two.mp3": "JAZZ"}, by="")
    assert catalog.view().genres == {"rock": 3, "jazz": 1}


def test_several_corrections_are_saved_together_or_not_at_all(catalog, tmp_path):
    with pytest.raises(UsageError, match="no such track"):
        catalog.say({"four.mp3": "Zouk", "five.mp3": "Zouk"}, by="")
    with pytest.raises(UsageError, match="no genre"):
        catalog.say({"four.mp3": "Zouk", "A/one.mp3": "\n"}, by="")
    with pytest.raises(UsageError, match="no genre"):
        catalog.say({"four.mp3": ""}, by="")
    assert not read_corrections(tmp_path)
    catalog.say({"four.mp3": "Zouk", "A/one.mp3": "Rock; Metal"}, by="")
    assert {i: one.genre for i, one in read_corrections(tmp_path).items()} == {
        "four.mp3": "Zouk",
        "A/one.mp3": "Rock; Metal",
    }
    assert len(list((tmp_path / "corrections").iterdir())) == 1


def test_what_others_add_is_seen(catalog, tmp_path, monkeypatch):
    correct(tmp_path, "four.mp3", "Zouk")
    results(tmp_path, {"five.mp3": [("pop", 0.5)]}, run_id="run-2")
    assert found(catalog, genres=("Zouk",)) == ["four.mp3"]
    assert catalog.view().track("five.mp3") is None  # results are looked for now and then
    monkeypatch.setattr(catalogs, "_REREAD_S", 0.0)
    assert catalog.view().track("five.mp3")["genre"] == "pop"


@pytest.mark.parametrize("name", ["/etc/passwd", "../four.mp3", "A/../four.mp3", "", "/music/four.mp3", "\ud800"])
def test_what_is_no_track_of_the_catalog_is_nothing(catalog, name):
    view = catalog.view()
    assert view.track(name) is None
    assert view.position(view.find(Filter()), name) is None


def test_names_of_a_mac_are_found_as_people_type_them(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Beyoncé/Déjà Vu.mp3") for form in ("NFC", "NFD"))
    catalog = Catalog(results(tmp_path, {decomposed: [("pop", 0.5)]}))
    assert found(catalog, text="beyoncé déjà") == found(catalog, text="BEYONCE deja") == [decomposed]
    assert found(catalog, text=unicodedata.normalize("NFD", "Déjà")) == [decomposed]
    assert catalog.view().track(composed)["track_id"] == decomposed
    assert found(catalog, folder="Beyonc")


def test_the_file_genre_is_what_was_written_since(tmp_path):
    song = tagfiles.make(tmp_path, "flac", "one")
    tagfiles.results(tmp_path / "out", {song: [("blues", 0.9)]}, root=tmp_path)
    assert found(Catalog(tmp_path / "out"), shown="untagged") == ["one.flac"]
    tagfiles.apply_all(tmp_path / "out")
    catalog = Catalog(tmp_path / "out")
    assert catalog.view().track("one.flac")["file_genre"] == "Blues"
    assert found(catalog, shown="untagged") == found(catalog, shown="differs") == []


@given(st.text(max_size=40), st.sampled_from(ORDERS), st.booleans())
def test_any_search_in_any_order_lists_a_part_of_the_catalog_once(any_catalog, text, order, descending):
    rows = any_catalog.find(Filter(text=text, order=order, descending=descending)).tolist()
    assert len(set(rows)) == len(rows) <= len(HEARD)
    if not text.strip():
        assert len(rows) == len(HEARD)


@pytest.fixture(scope="module")
def any_catalog(tmp_path_factory):
    return Catalog(results(tmp_path_factory.mktemp("any"))).view()


def test_a_folder_without_results_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="no results here"):
        Catalog(tmp_path)
