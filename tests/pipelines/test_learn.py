"""`genrebeam learn`, tagging with what it learned, and `genrebeam playlist`: from rows, nothing is heard again."""

import csv
import dataclasses
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synth
import tagfiles
from commandline import genrebeam, rows_of, shown_by
from mutagen.flac import FLAC

from genrebeam.features.errors import UsageError
from genrebeam.features.schema import Track
from genrebeam.model.bundle import DEFAULT, load_config
from genrebeam.pipelines.dataset.corrections import correct
from genrebeam.pipelines.dataset.dataset import Dataset
from genrebeam.pipelines.dataset.ledger import newest_results
from genrebeam.pipelines.dataset.schema import RESULTS
from genrebeam.pipelines.jobs.learn import LearnOptions, learn_words, read_catalog, together
from genrebeam.pipelines.jobs.playlist import PlaylistOptions, as_m3u8, choose
from genrebeam.pipelines.storage.places import path_uri

SPACE = load_config(DEFAULT).embedding
WORDS = ("Kölsch", "演歌", "Zouk")


def embedding(word, artist, number):
    """A cloud for each word in the space of the shipped bundle."""
    centre = np.random.default_rng(WORDS.index(word)).normal(0, 25, SPACE.size)
    rng = np.random.default_rng([WORDS.index(word), artist, number])
    offset = np.random.default_rng([9, WORDS.index(word), artist]).normal(0, 8, SPACE.size)
    return np.clip(np.rint(centre + offset + rng.normal(0, 10, SPACE.size)), -127, 127).astype(int).tolist()


@pytest.fixture
def catalog(tmp_path):
    """Three words, five artists each, four songs each, as small files and rows; every second artist has tags."""
    rows = []
    for word in WORDS:
        for artist in range(5):
            for number in range(4):
                name = f"{word} {artist}/Album/{number}.wav"
                path = tmp_path / "music" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"RIFF" + name.encode())
                track = Track(path_uri(path), name, path.stat().st_size, path.stat().st_mtime_ns // 1000 / 1e6)
                (row,) = tagfiles.result_rows({track: [("pop", 0.6)]})
                rows.append(
                    row
                    | {
                        "embedding": embedding(word, artist, number),
                        "embedding_trunk": SPACE.trunk,
                        "artist": f"{word} {artist}",
                        "album": "Album",
                        "title": f"Song, {number}",
                        "duration_s": 200.0 + number,
                        "genre_before": [word] if artist < 4 else ["Other"],
                        "genre_user": [word] if artist < 4 else [],
                        "vote": "mean",
                        "model_fingerprint": "fp-1",
                        "chunk_scores": [[0.5]],
                    }
                )
    write(tmp_path / "out", rows)
    return tmp_path


def write(output, rows, run_id="run-1"):
    (output / "results").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, RESULTS), output / "results" / f"{run_id}.parquet")


def options(catalog, **changes):
    values = {"results": str(catalog / "out"), "output": catalog / "words"} | changes
    return LearnOptions(**values)


def words_of(catalog, **changes):
    found = read_catalog(Dataset.at(catalog / "out"), load_config(DEFAULT), options(catalog, **changes))
    return dict(zip(found.track_ids, found.words, strict=True)), found


def test_three_commands_give_a_library_its_own_words(catalog):
    said = shown_by("learn", catalog / "out", "--output", catalog / "words")
    assert "48 of 60 tracks have words of yours." in said
    assert "Kölsch 16 4 heard well" in said and "演歌 16 4 heard well" in said
    assert f"--model {catalog}/words" in said
    assert load_config(catalog / "words").labels == tuple(sorted(WORDS))
    new = synth.write(catalog / "music" / "New" / "song.wav", synth.music(9, seed=1))
    tag = ("tag", catalog / "music", "--output", catalog / "out", "--model", catalog / "words", "--workers", "1")
    assert "not heard 60 of these" in shown_by(*tag)
    report = json.loads(max((catalog / "out").glob("run-*.json")).read_text())
    assert (report["found"], report["tagged"], report["from_embeddings"], report["rejected"]) == (61, 61, 60, 0)
    rows = {row["track_id"]: row for row in newest_results(catalog / "out").to_pylist()}
    heard = rows.pop(new.relative_to(catalog / "music").as_posix())
    assert heard["chunk_scores"] and heard["embedding"] and heard["genre"] in WORDS
    for track_id, row in rows.items():
        assert row["genre"] == track_id.split()[0]
        assert row["chunk_scores"] is None and row["embedding_trunk"] == SPACE.trunk and row["title"]
    assert "done before 61" in shown_by(*tag)


def test_a_file_that_changed_is_heard_again_and_not_scored(catalog):
    genrebeam("learn", catalog / "out", "--output", catalog / "words")
    changed = catalog / "music" / "Zouk 0" / "Album" / "0.wav"
    synth.write(changed, synth.music(9, seed=1))
    command = ("tag", catalog / "music", "--output", catalog / "out", "--model", catalog / "words", "--workers", "1")
    assert "not heard 59 of these" in shown_by(*command)
    rows = {row["track_id"]: row for row in newest_results(catalog / "out").to_pylist()}
    assert rows["Zouk 0/Album/0.wav"]["chunk_scores"] is not None


def test_another_vote_or_more_coverage_needs_hearing(catalog):
    genrebeam("learn", catalog / "out", "--output", catalog / "words")
    for more in (("--vote", "majority"),):
        command = ("tag", catalog / "music", "--output", catalog / "out", "--model", catalog / "words", *more)
        assert "not heard" not in shown_by(*command, "--max-reject-share", "1")  # these are no sound


def test_corrections_come_first_then_the_users_tags_then_what_stood_there_before_us(catalog):
    correct(catalog / "out", "Zouk 0/Album/0.wav", "Kizomba; Zouk")
    correct(catalog / "out", "Zouk 4/Album/0.wav", "zouk")
    words, found = words_of(catalog)
    assert words["Zouk 0/Album/0.wav"] == ("Kizomba", "Zouk")
    assert words["Zouk 1/Album/0.wav"] == ("Zouk",)
    assert words["Zouk 4/Album/0.wav"] == ("Zouk",)  # spelled as most spell it
    assert words["Zouk 4/Album/1.wav"] == ()
    assert found.spellings == {"Zouk": ("zouk",)}


def test_what_genrebeam_wrote_itself_is_no_word_of_the_user(tmp_path):
    song = tagfiles.make(tmp_path, "flac", "song")
    tags = FLAC(song)
    tags["genre"] = "Old"
    tags.save()
    tagfiles.results(tmp_path / "out", {song: [("blues", 0.9)]}, root=tmp_path)
    genrebeam("apply", tmp_path / "out", "--yes", "--write-tags", "overwrite")
    (row,) = newest_results(tmp_path / "out").to_pylist()
    status = song.stat()
    row |= {"embedding": embedding("Zouk", 0, 0), "embedding_trunk": SPACE.trunk, "genre_before": ["Blues"]}
    row |= {"genre_user": [], "size": status.st_size}
    write(tmp_path / "out", [row])
    words, _ = words_of(tmp_path)
    assert words == {row["track_id"]: ("Old",)}


def test_words_are_mapped_split_and_cleaned(catalog):
    rows = newest_results(catalog / "out").to_pylist()
    rows[0] |= {"genre_user": ["Kölsch; N/A", "Schlager"]}
    rows[1] |= {"genre_user": None, "genre_before": ["kölsch"]}  # of an older version
    write(catalog / "out", rows)
    names = (("schlager", ("Volkstümlich", "Hit")), ("Zouk", ()))
    words, _ = words_of(catalog, names=names, useless=("n/a", "Other", "Hit"))
    assert words[rows[0]["track_id"]] == ("Kölsch", "Volkstümlich")
    assert words[rows[1]["track_id"]] == ("Kölsch",)
    assert words["Zouk 1/Album/0.wav"] == ()


def test_a_table_of_labels_takes_the_place_of_tags(catalog):
    table = catalog / "labels.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["track_id", "genre"])
        writer.writerows((row["track_id"], row["artist"][-1]) for row in newest_results(catalog / "out").to_pylist())
    words, _ = words_of(catalog, labels=table)
    assert words["Zouk 3/Album/0.wav"] == ("3",)


def test_without_any_word_the_tracks_to_begin_with_are_listed(catalog):
    rows = [row | {"genre_user": [], "genre_before": []} for row in newest_results(catalog / "out").to_pylist()]
    write(catalog / "out", rows)
    process = genrebeam("learn", catalog / "out", "--output", catalog / "words", code=1)
    assert "0 of 60 tracks have words of yours." in process.stdout
    asked = [line.strip() for line in process.stdout.splitlines() if line.startswith("  ")]
    assert len(asked) == 15  # one for each artist there is
    assert len({line.split("/")[0] for line in asked}) == 15
    assert "nothing to learn" in process.stderr and len(process.stderr.splitlines()) == 1
    assert not (catalog / "words").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda row: row | {"embedding": None, "embedding_trunk": None}, "none of its 60 rows has an embedding"),
        (lambda row: row | {"embedding_trunk": "another"}, "none of its 60 rows has an embedding"),
    ],
)
def test_rows_that_cannot_be_used_are_one_line(catalog, damage, message):
    write(catalog / "out", [damage(row) for row in newest_results(catalog / "out").to_pylist()])
    assert message in shown_by("learn", catalog / "out", "--output", catalog / "words", code=2)


def test_mistakes_are_one_line(catalog):
    assert "no results here" in shown_by("learn", catalog / "music", "--output", catalog / "words", code=2)
    options_ = ("learn", catalog / "out", "--output", catalog / "words")
    assert "--min-artists must be at least 2" in shown_by(*options_, "--min-artists", "1", code=2)
    assert "--precision must lie between" in shown_by(*options_, "--precision", "2", code=2)
    (catalog / "file").write_text("in the way")
    said = shown_by("learn", catalog / "out", "--output", catalog / "file" / "words", code=2)
    assert "cannot be written" in said


def test_some_rows_without_embedding_are_counted(catalog):
    rows = newest_results(catalog / "out").to_pylist()
    write(catalog / "out", [row | {"embedding": None} if i < 3 else row for i, row in enumerate(rows)])
    report = learn_words(options(catalog))
    assert (report.tracks, report.others) == (57, 3)


def test_contradicted_tags_are_listed_in_the_bundle_and_beside_the_results(catalog):
    rows = newest_results(catalog / "out").to_pylist()
    wrong = next(row for row in rows if row["track_id"] == "Zouk 0/Album/2.wav")
    wrong["genre_user"] = ["Kölsch"]
    write(catalog / "out", rows)
    learn_words(options(catalog))
    (check,) = pq.read_table(catalog / "out" / "tags-to-check.parquet").to_pylist()
    assert (check["track_id"], check["words"], check["heard"]) == ("Zouk 0/Album/2.wav", ["Kölsch"], "Zouk")
    with (catalog / "words" / "tags-to-check.csv").open(encoding="utf-8") as file:
        assert [row["heard"] for row in csv.DictReader(file)] == ["Zouk"]
    genrebeam("report", catalog / "out", "--output", catalog / "page.html")
    page = (catalog / "page.html").read_text(encoding="utf-8")
    assert "Tags to check" in page and "<td>Zouk 0/Album/2.wav</td><td>Kölsch</td><td>Zouk</td>" in page
    (catalog / "out" / "tags-to-check.parquet").write_bytes(b"damaged")
    assert "`genrebeam learn` makes it anew" in shown_by("report", catalog / "out", code=2)
    card = (catalog / "words" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| Kölsch | 17 | 5 |" in card and "What to expect" in card


def test_artists_albums_and_folders_are_kept_together():
    tracks = ["A/X/1", "A/X/2", "B/Y/1", "C/Z/1", "C/Z/2", "loose"]
    people = [("Ann", "X"), ("the ann", None), ("Ann feat. Bo", "X"), (None, None), ("Various Artists", None)]
    groups = together(tracks, [*people, (None, None)])
    assert groups[0] == groups[1]
    assert groups[3] == groups[4] != groups[0]
    assert len(set(groups)) == 4  # the album X in another folder is another album


def test_compilations_do_not_make_one_group_of_a_library():
    tracks = [f"Hits/{i // 10}/{i}.mp3" for i in range(300)]
    people = [(f"artist {i % 50}", f"Hits {i // 10}") for i in range(300)]
    assert len(set(together(tracks, people))) == 50


# ---- playlists


def test_what_sounds_alike_comes_first_and_artists_once(catalog):
    entries = choose(PlaylistOptions(str(catalog / "out"), like=("Zouk 0/Album/0.wav",), count=5))
    assert [entry.track_id.split()[0] for entry in entries[:4]] == ["Zouk"] * 4  # other artists, once each
    assert len({entry.artist for entry in entries}) == 5
    assert "Zouk 0/Album/0.wav" not in {entry.track_id for entry in entries}
    many = choose(PlaylistOptions(str(catalog / "out"), like=("Zouk 0/Album/0.wav",), per_artist=0, per_album=0))
    assert [entry.artist for entry in many[:3]] == ["Zouk 0"] * 3
    by_path = choose(PlaylistOptions(str(catalog / "out"), like=(str(catalog / "music/Zouk 0/Album/0.wav"),), count=5))
    assert by_path == entries


def test_a_genre_is_found_in_any_spelling_and_corrections_count(catalog):
    correct(catalog / "out", "Zouk 1/Album/1.wav", "Cadence-lypso")
    (entry,) = choose(PlaylistOptions(str(catalog / "out"), genres=("cadence lypso",)))
    assert (entry.track_id, entry.genre) == ("Zouk 1/Album/1.wav", "Cadence-lypso")
    many = PlaylistOptions(str(catalog / "out"), genres=("Pop",), per_artist=0, per_album=0, count=100)
    pop = choose(many)
    assert len(pop) == 59
    assert pop == choose(many) != choose(dataclasses.replace(many, seed=1))
    hour = choose(PlaylistOptions(str(catalog / "out"), genres=("Pop",), hours=0.5))
    assert 1500 < sum(entry.duration_s for entry in hour) <= 1800
    folder = choose(PlaylistOptions(str(catalog / "out"), folder="Zouk 2", per_artist=0, per_album=0))
    assert len(folder) == 4


def test_a_playlist_is_for_players_programs_and_servers(catalog):
    lists = catalog / "lists"
    lists.mkdir()
    genrebeam("playlist", catalog / "out", "--like", "演歌 0/Album/0.wav", "--count", "3", "--output", lists / "p.m3u8")
    lines = (lists / "p.m3u8").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#EXTM3U"
    assert len(lines) == 7
    for info, path in zip(lines[1::2], lines[2::2], strict=True):
        assert info.startswith("#EXTINF:20") and " - Song, " in info
        assert not os.path.isabs(path) and (lists / path).is_file()
    genrebeam("playlist", catalog / "out", "--folder", "Zouk 2", "--format", "json", "--output", lists / "p.json")
    assert [entry["artist"] for entry in json.loads((lists / "p.json").read_text(encoding="utf-8"))] == ["Zouk 2"]
    genrebeam("playlist", catalog / "out", "--genre", "hiphop", "--format", "nsp", "--output", lists / "Rap.nsp")
    rule = json.loads((lists / "Rap.nsp").read_text())
    assert rule["name"] == "Rap" and rule["any"] == [{"is": {"genre": "Hip-Hop"}}] and rule["limit"] == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what it is to be of"),
        (("--like", "no such song"), "no result of it in"),
        (("--genre", "polka"), "no track fits"),
        (("--genre", "pop", "--count", "0"), "--count 0"),
        (("--genre", "pop", "--per-artist", "-1"), "--per-artist -1"),
        (("--like", "Zouk 0/Album/0.wav", "--format", "nsp"), "neither --like"),
    ],
)
def test_mistakes_in_a_playlist_are_one_line(catalog, arguments, message):
    output = ("--output", catalog / "p.m3u8")
    assert message in shown_by("playlist", catalog / "out", *arguments, *output, code=2)
    assert not (catalog / "p.m3u8").exists()


def test_a_track_of_another_network_is_like_nothing(catalog):
    rows = newest_results(catalog / "out").to_pylist()
    write(catalog / "out", [row | {"embedding_trunk": "old"} if i == 0 else row for i, row in enumerate(rows)])
    like = (rows[0]["track_id"], rows[1]["track_id"])
    with pytest.raises(UsageError, match="another network"):
        choose(PlaylistOptions(str(catalog / "out"), like=like))
    many = PlaylistOptions(str(catalog / "out"), like=like[1:], per_artist=0, per_album=0, count=100)
    alone = choose(many)
    assert rows[0]["track_id"] not in {entry.track_id for entry in alone}


def test_a_track_without_tags_is_named_after_its_file(catalog):
    rows = newest_results(catalog / "out").to_pylist()
    nameless = {"artist": None, "title": None, "album": None}
    write(catalog / "out", [row | nameless for row in rows])
    entries = choose(PlaylistOptions(str(catalog / "out"), folder="Zouk 2"))
    assert as_m3u8(entries, catalog).splitlines()[1].split(",")[1] in {"0", "1", "2", "3"}
    assert rows_of(catalog / "out", "results")
