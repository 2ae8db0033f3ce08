"""What the shipped models learn from: deploy/recipe.py over a handful of clips laid out like the development data."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from commandline import ROOT

from genrebeam.features.config import FrontEnd
from genrebeam.features.mel import log_mel
from genrebeam.model import targets
from genrebeam.pipelines.jobs.shards import StoredLogMels, stored_log_mels
from genrebeam.pipelines.library.labels import from_table
from tests import synth

ALLMUSIC = ("MT1", "MT2", "MT3")
SONGS = ("songs.0", "songs.1")
MORE = ("more.0", "more.1", "more.2", "more.3")
GTZAN = ("blues.00000", "rock.00001", "pop.00002")


def table(file, header, *rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header.split(","), *rows])


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    data, output = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("recipe")
    log_mel, teacher = data / "logmel", data / "teacher"
    table(
        log_mel / "gtzan.csv",
        "track_id,genre,artist,title,split",
        (GTZAN[0], "blues", "A", "", "train"),
        (GTZAN[1], "rock", "B", "", "valid"),
        (GTZAN[2], "pop", "C", "", "excluded"),
    )
    table(
        log_mel / "allmusic.csv",
        "track_id,genre,artist,title,allmusic_genres",
        (ALLMUSIC[0], "country", "D", "", "Country"),
        (ALLMUSIC[1], "", "Aaliyah", "", "R&B"),  # by hand: pop, in GTZAN's sense
        (ALLMUSIC[2], "", "nobody", "", "Electronic"),
    )
    table(
        log_mel / "emotify.csv",
        "track_id,genre,artist,title,folder_genre,id3_genre",
        ("electronic/1.mp3", "", "E", "", "electronic", ""),
        ("rock/1.mp3", "", "F", "", "rock", ""),
    )
    table(
        log_mel / "songs.csv",
        "track_id,genre,genre16,sure,artist,title",
        (SONGS[0], "pop; country", "pop; country", "1", "G", ""),
        (SONGS[1], "", "world; latin", "1", "H", ""),
    )
    table(
        data / "logmel2048" / "more.csv",
        "track_id,part,genre16,sure,style,artist,title",
        (MORE[0], "1", "jazz; pop; rnb", "1", "swing; vocal jazz", "J", ""),
        (MORE[0], "2", "jazz; pop; rnb", "1", "swing; vocal jazz", "J", ""),
        (MORE[1], "1", "rock", "0", "", "unknown", ""),
        (MORE[1], "2", "rock", "0", "", "unknown", ""),
        (MORE[2], "1", "world; pop", "1", "maori", "K", ""),
        (MORE[3], "1", "folk", "1", "folk", "L", ""),
    )
    table(log_mel / "unlabelled.csv", "track_id,folder_hint", ("song.0", "english"))
    table(
        teacher / "allmusic_genre16.csv",
        "track_id,genre16,sure",
        (ALLMUSIC[0], "country; folk", "1"),
        (ALLMUSIC[1], "rnb; pop", "1"),
        (ALLMUSIC[2], "electronic", "1"),
    )
    names = ["Speech", "Music", "Guitar", "Scary music", "Wind"]
    table(teacher / "audioset_labels.csv", "index,mid,display_name", *((i, "", name) for i, name in enumerate(names)))
    random = np.random.default_rng(0)
    for name, ids in (("allmusic", ALLMUSIC), ("songs", SONGS), ("gtzan", GTZAN[:2])):
        numbers = {"audioset_logits": 5, "audioset_embedding": 4, **({"msd_tag_logits": 3} if name != "gtzan" else {})}
        arrays = {key: random.normal(size=(len(ids), size)).astype(np.float16) for key, size in numbers.items()}
        np.savez(teacher / f"{name}.npz", track_id=np.array(ids), **arrays)
    shares = random.random((2, 3)).astype(np.float16)
    np.savez(teacher / "gtzan_train_msd_tags.npz", track_id=np.array(GTZAN[:2]), msd_tag_probabilities=shares)
    voices = data / "voices"
    (voices / "anna").mkdir(parents=True)
    for name in ("1.wav", "2.wav"):  # joined: a clip of thirty seconds, and a rest that is too short for one
        soundfile.write(voices / "anna" / name, synth.music(20, seed=1), 22_050)
    (voices / "anna" / "readme.txt").write_text("how this was recorded")
    recipe = [sys.executable, ROOT / "deploy" / "recipe.py", data, output, voices]
    subprocess.run(recipe, check=True, cwd=ROOT, capture_output=True)
    return output


def genres(output, name):
    return {key: list(label.genres) for key, label in from_table(output / f"labels-{name}.csv").items()}


def without_background(named):
    return {key: words for key, words in named.items() if not key.startswith("background/")}


def test_the_sixteen_are_named_best_first_and_faulty_clips_are_left_out(output):
    assert without_background(genres(output, "genres16")) == {
        "gtzan/blues.00000": ["blues"],
        "gtzan/rock.00001": ["rock"],
        "allmusic/MT1": ["country", "folk"],
        "allmusic/MT2": ["rnb", "pop"],
        "allmusic/MT3": ["electronic"],
        "emotify/electronic/1.mp3": ["electronic"],
        "emotify/rock/1.mp3": ["rock", "pop"],
        "songs/songs.0": ["pop", "country"],
        "songs/songs.1": ["world", "latin"],
        "more/more.0-1": ["jazz", "pop", "rnb"],
        "more/more.0-2": ["jazz", "pop", "rnb"],
        "more/more.1-1": ["rock"],
        "more/more.1-2": ["rock"],
        "more/more.2-1": ["world", "pop"],
        "more/more.3-1": ["folk"],
        "unlabelled/song.0": [],
    }


def test_parts_of_one_song_are_of_one_group(output):
    groups = {key: label.group for key, label in from_table(output / "labels-genres16.csv").items()}
    assert groups["more/more.0-1"] == groups["more/more.0-2"] == "J"
    assert groups["more/more.1-1"] == groups["more/more.1-2"] == "more/more.1"


def test_the_ten_are_gtzans_and_other_music_keeps_its_own_name(output):
    ten = genres(output, "gtzan10")
    assert ten["allmusic/MT1"] == ["country"]
    assert ten["allmusic/MT2"] == ["pop"]
    assert ten["allmusic/MT3"] == ["electronic"]
    assert ten["songs/songs.0"] == ["pop", "country"]
    assert ten["songs/songs.1"] == ["world", "latin"]
    assert ten["more/more.0-2"] == ["jazz", "pop"]
    assert ten["more/more.3-1"] == ["folk"]
    # Not sure, and not of the ten in the first place: nobody knows.
    assert not {"more/more.1-1", "more/more.2-1"} & set(ten)
    assert "unlabelled/song.0" not in ten


def test_what_is_no_music_is_of_no_genre_and_has_log_mels_of_its_own(output):
    words = genres(output, "genres16")
    assert words["background/anna.0"] == ["speech"]
    assert words["background/hiss.0"] == ["noise"]
    assert "background/anna.1" not in words
    assert without_background(genres(output, "gtzan10")) == genres(output, "gtzan10")
    tracks, labels = stored_log_mels(output / "logmel", None)
    reader = StoredLogMels(output / "logmel", FrontEnd())
    reader.open()
    read = {track.track_id: reader.read(track) for track in tracks if track.track_id.startswith("background/")}
    assert set(read) == {key for key in genres(output, "genres16") if key.startswith("background/")}
    voice = read["background/anna.0"].log_mel.astype(float)
    one = log_mel(synth.music(20, seed=1)[:, 0], FrontEnd()).astype(float)
    whole = np.concatenate([one, one])[: len(voice)]
    # Stored in steps of 1.6 dB, from the loudest point on, which is set to 40 dB when read.
    heard = whole > whole.max() - 80  # the files have 16 bits
    assert np.abs((voice - whole)[heard] - (voice.max() - whole.max())).max() <= 3.5
    assert labels["background/anna.0"].group == "anna"
    claimed = targets.load(output / "targets.parquet")
    assert not claimed.claims["gtzan10"][claimed.track_ids.index("background/anna.0")].any()


def test_targets_are_what_train_reads(output):
    found = targets.load(output / "targets.parquet")
    assert found.bundled == {"gtzan10": ("blues", "country", "jazz", "pop", "rock")}
    numbers = {"tags": 3, "audioset": 3, "embedding": 4}  # "Music" to "Scary music"
    assert found.sizes == {"gtzan10": 6, "style": 5, "allmusic": 4, **numbers}
    claimed = dict(zip(found.track_ids, found.claims["gtzan10"].tolist(), strict=True))
    assert claimed["songs/songs.0"] == [0, 0.5, 0, 1, 0]
    assert claimed["allmusic/MT3"] == [0, 0, 0, 0, 0]  # of none of the ten
    tags = dict(zip(found.track_ids, found.numbers["tags"], strict=True))
    assert np.isfinite(tags["gtzan/blues.00000"]).all()
    assert np.isfinite(tags["songs/songs.1"]).all()
    assert found.note
    assert set(genres(output, "genres16")) - {"unlabelled/song.0"} <= set(found.track_ids)  # by the same names


def said(found, head, track_id):
    claims = found.claims[head][found.track_ids.index(track_id)]
    return (
        None if np.isnan(claims).any() else {word for word, said in zip(found.words[head], claims, strict=True) if said}
    )


def test_finer_words_teach_in_pools_and_are_unknown_where_nobody_wrote_them_down(output):
    found = targets.load(output / "targets.parquet")
    assert said(found, "style", "more/more.0-2") == {"swing", "crooners"}
    assert said(found, "style", "more/more.2-1") == set()  # of no pool
    assert said(found, "style", "more/more.1-1") is None
    assert said(found, "style", "songs/songs.0") is None
    assert said(found, "allmusic", "allmusic/MT2") == {"R&B"}
    assert said(found, "allmusic", "more/more.0-1") is None
