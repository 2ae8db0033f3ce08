"""Tracks are found by what people type, whatever form of Unicode a Mac has given their names."""

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.dataset.names import below, rows_named


def table(*track_ids):
    uris = [f"/music/{track_id}" for track_id in track_ids]
    return pa.table({"track_id": pa.array(track_ids, pa.string()), "uri": pa.array(uris, pa.string())})


def nfd(text):
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("name", ["Björk/Jóga.flac", nfd("Björk/Jóga.flac"), "/music/Björk/Jóga.flac"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_either_form_finds_the_track(name, form):
    rows = table("ABBA/x.mp3", unicodedata.normalize(form, "Björk/Jóga.flac"))
    assert rows_named([name], rows, where="out") == [1]


def test_letter_for_letter_wins_and_two_that_differ_in_form_only_are_not_guessed():
    rows = table("é.mp3", nfd("é.mp3"))
    assert rows_named(["é.mp3", nfd("é.mp3")], rows, where="out") == [0, 1]
    rows = table("é/ü.mp3".replace("ü", nfd("ü")), nfd("é") + "/ü.mp3")
    with pytest.raises(UsageError, match="2 tracks of out have this name"):
        rows_named(["é/ü.mp3"], rows, where="out")


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8, unique=True))
def test_every_track_is_found_by_its_own_id(track_ids):
    track_ids = [text.encode("utf-8", "replace").decode() for text in track_ids]
    track_ids = list(dict.fromkeys(track_ids))
    assert rows_named(track_ids, table(*track_ids), where="out") == list(range(len(track_ids)))


@pytest.mark.parametrize("name", ["", "nobody", "\udce9.mp3"])
def test_a_name_of_nothing_is_one_line(name):
    with pytest.raises(UsageError, match="no result of it in out; give its path"):
        rows_named([name], table("a.mp3"), where="out")


def test_folders_are_found_in_either_form():
    track_ids = table(nfd("Björk/a.mp3"), "Björk/b.mp3", "Björk b/c.mp3")["track_id"]
    assert below("Björk/", track_ids).to_pylist() == [True, True, False]
