"""Which genres a file should have."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrebeam.features.errors import UsageError
from genrebeam.model.bundle import SHIPPED, load_config
from genrebeam.pipelines.tags.policy import (
    Outcome,
    Prediction,
    TagPolicy,
    WriteDecision,
    decide_write,
    is_useless,
    read_names,
    same,
    spelled,
)
from genrebeam.pipelines.tags.read import TagValues

WHEN = dt.datetime(2026, 11, 1, 12, 0, tzinfo=dt.timezone.utc)


def heard(*genres: tuple[str, float], fingerprint: str = "fp") -> Prediction:
    return Prediction(genres, "model", fingerprint, WHEN)


def decided(current: tuple[str, ...] | TagValues, what: Prediction, **options: Any) -> WriteDecision:
    values = current if isinstance(current, TagValues) else TagValues(current)
    return decide_write(values, what, TagPolicy(**options))


def genres(decision: WriteDecision) -> tuple[str, ...] | None:
    return decision.values.genres if decision.values else None


@pytest.mark.parametrize(
    ("policy", "current", "outcome", "result"),
    [
        ("none", (), Outcome.NOTHING, None),
        ("fill", (), Outcome.WRITE, ("Jazz",)),
        ("fill", ("Other",), Outcome.WRITE, ("Jazz",)),
        ("fill", ("unknown", " "), Outcome.WRITE, ("Jazz",)),
        ("fill", ("Rock",), Outcome.KEPT, None),
        ("fill", ("Jazz",), Outcome.KEPT, None),
        ("merge", (), Outcome.WRITE, ("Jazz",)),
        ("merge", ("Rock",), Outcome.WRITE, ("Rock", "Jazz")),
        ("merge", ("Rock", "Other"), Outcome.WRITE, ("Rock", "Jazz")),
        ("merge", ("jazz",), Outcome.SAME, None),
        ("merge", ("Rock/Jazz",), Outcome.SAME, None),
        ("overwrite", ("Rock", "Pop"), Outcome.WRITE, ("Jazz",)),
        ("overwrite", ("Jazz",), Outcome.SAME, None),
        ("overwrite", ("JAZZ",), Outcome.WRITE, ("Jazz",)),
    ],
)
def test_policies(policy: str, current: tuple[str, ...], outcome: Outcome, result: Any) -> None:
    decision = decided(current, heard(("jazz", 0.8)), policy=policy)
    assert (decision.outcome, genres(decision)) == (outcome, result)


@pytest.mark.parametrize(
    "existing", ["Hip-Hop", "hip hop", "HipHop", "Hip Hop/Rap", "Rap", "Rap & Hip-Hop", "Pop; Hip-Hop"]
)
def test_merge_adds_no_second_spelling_of_a_genre(existing: str) -> None:
    assert decided((existing,), heard(("hiphop", 0.9)), policy="merge").outcome is Outcome.SAME


def test_two_labels_with_one_name_are_written_once() -> None:
    names = (("metal", ("Rock",)),)
    decision = decided((), heard(("rock", 0.6), ("metal", 0.55)), max_genres=2, names=names)
    assert genres(decision) == ("Rock",)


def test_music_of_none_of_the_genres_is_left_alone() -> None:
    found = dataclasses.replace(heard(("jazz", 0.9)), unknown=0.6)
    assert decided((), found).outcome is Outcome.UNSURE
    assert decided((), found, max_unknown=0.7).outcome is Outcome.WRITE
    assert decided((), dataclasses.replace(found, corrected=True)).outcome is Outcome.WRITE


def test_unsure_genres_are_not_written() -> None:
    assert decided((), heard(("jazz", 0.49)), min_confidence=0.5).outcome is Outcome.UNSURE
    decision = decided((), heard(("jazz", 0.6), ("blues", 0.2)), max_genres=3, min_confidence=0.3)
    assert genres(decision) == ("Jazz",)


def test_max_genres_takes_the_surest() -> None:
    found = heard(("jazz", 0.5), ("blues", 0.3), ("rock", 0.2))
    assert genres(decided((), found, max_genres=2, min_confidence=0)) == ("Jazz", "Blues")


def test_a_label_mapped_to_nothing_is_never_written() -> None:
    assert decided(("Other",), heard(("pop", 0.9)), names=(("pop", ()),)).outcome is Outcome.NOTHING


def test_provenance_says_who_how_sure_and_when() -> None:
    values = decided(("Rock",), heard(("jazz", 0.834)), policy="merge").values
    assert values is not None
    assert values.provenance == {
        "model": ("model",),
        "fingerprint": ("fp",),
        "genre": ("Rock", "Jazz"),
        "confidence": ("Jazz 0.83",),
        "date": ("2026-11-01T12:00:00Z",),
    }


@pytest.mark.parametrize("policy", ["fill", "merge", "overwrite"])
@pytest.mark.parametrize("current", [(), ("Other",), ("Rock",), ("Rock", "Pop")])
def test_a_second_run_has_nothing_to_do(policy: str, current: tuple[str, ...]) -> None:
    first = decided(current, heard(("jazz", 0.8)), policy=policy)
    if first.values:
        assert decided(first.values, heard(("jazz", 0.8)), policy=policy).outcome is Outcome.SAME


def test_another_model_replaces_what_the_first_one_filled_in() -> None:
    first = decided((), heard(("jazz", 0.8))).values
    assert first is not None
    assert genres(decided(first, heard(("blues", 0.9), fingerprint="fp2"))) == ("Blues",)


def test_another_model_replaces_only_our_part_of_a_merge() -> None:
    first = decided(("Rock",), heard(("jazz", 0.8)), policy="merge").values
    assert first is not None
    second = decided(first, heard(("blues", 0.9), fingerprint="fp2"), policy="merge")
    assert genres(second) == ("Rock", "Blues")


@pytest.mark.parametrize("policy", ["fill", "merge", "overwrite"])
@pytest.mark.parametrize("edit", [(), ("Swing",), ("Jazz", "Swing")])
def test_an_edit_after_us_is_respected(policy: str, edit: tuple[str, ...]) -> None:
    first = decided((), heard(("jazz", 0.8)), policy=policy).values
    assert first is not None
    edited = TagValues(edit, first.provenance)
    assert decided(edited, heard(("blues", 0.9)), policy=policy).outcome is Outcome.EDITED
    forced = decided(edited, heard(("blues", 0.9)), policy="overwrite", respect_edits=False)
    assert genres(forced) == ("Blues",)


def test_labels_are_spelled_as_id3_spells_them() -> None:
    labels = "blues classical country disco hiphop jazz metal pop reggae rock".split()
    assert [spelled(label) for label in labels] == (
        "Blues Classical Country Disco Hip-Hop Jazz Metal Pop Reggae Rock".split()
    )
    assert [spelled(label) for label in ("rnb", "world", "newage", "rap")] == ["R&B", "World Music", "New Age", "Rap"]
    assert spelled("Zouk Machine") == "Zouk Machine"
    assert spelled("made up") == "made up"


def test_useless_words() -> None:
    for word in ("Other", "OTHER", "unknown genre", "N/A", "", "  ", "misc."):
        assert is_useless(word, TagPolicy().useless), word
    for word in ("Rock", "World Music", "日本の音楽", "!!!"):
        assert not is_useless(word, TagPolicy().useless), word


@settings(deadline=None)
@given(st.lists(st.text(max_size=12), max_size=4), st.sampled_from(["fill", "merge", "overwrite"]), st.text(min_size=1))
def test_any_genre_is_survived_and_settles(current: list[str], policy: str, label: str) -> None:
    """Whatever stands in a file: nothing useful is lost by fill or merge, and a second run changes nothing."""
    options = TagPolicy(policy=policy)
    before = TagValues(tuple(current))
    decision = decide_write(before, heard((label, 1.0)), options)
    if decision.values is None:
        return
    useful = [genre for genre in current if not is_useless(genre, options.useless)]
    if policy != "overwrite":
        assert [genre for genre in decision.values.genres if genre in useful] == useful
    assert decide_write(decision.values, heard((label, 1.0)), options).outcome is not Outcome.WRITE


@settings(deadline=None)
@given(st.text())
def test_spelling_with_other_case_and_blanks_is_the_same_genre(genre: str) -> None:
    assert same(f" {genre} ") == same(genre)


@pytest.mark.parametrize(
    "options", [{"policy": "all"}, {"min_confidence": 1.5}, {"max_unknown": -1}, {"max_genres": 0}]
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"choose one of|must be"):
        TagPolicy(**options)


def test_genre_map_file(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text("# my words\nhiphop = Hip-Hop/Rap\nmetal = Rock; Metal #1\n\npop =\n", encoding="utf-8")
    assert read_names(path) == (("hiphop", ("Hip-Hop/Rap",)), ("metal", ("Rock", "Metal #1")), ("pop", ()))
    path.write_text("hiphop Hip-Hop\n")
    with pytest.raises(UsageError, match="line 1"):
        read_names(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_names(tmp_path / "absent")


@pytest.mark.parametrize("name", ["tree", "musicbrainz"])
def test_maps_that_ship_have_a_word_for_every_label_and_make_way_for_a_file(name, tmp_path, monkeypatch) -> None:
    labels = {label for folder in SHIPPED.values() for label in load_config(folder).labels}
    shipped = dict(read_names(Path(name)))
    assert shipped.keys() == labels
    assert all(shipped.values())
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("rock = Mine\n")
    assert read_names(Path(name)) == (("rock", ("Mine",)),)
