"""Training shards: what goes where, the same bytes whoever writes them, and nothing lost on the way."""

import csv
import hashlib
import json
import lzma
import signal
import subprocess
import time
import wave
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import synth
from click.testing import CliRunner
from commandline import GENREBEAM, ROOT
from processes import workers_of

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import UsageError
from genrebeam.features.records import Labels
from genrebeam.features.schema import Track
from genrebeam.model import shardset
from genrebeam.model.splits import fold_of
from genrebeam.pipelines.commands.shards import command
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.jobs import shards
from genrebeam.pipelines.library import labels as labelling

FRONT_END = FrontEnd(hop_length=2048)
CLIPS = 12


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Two sets of stored log-Mels in the layout of ../shared/data/logmel."""
    folder = tmp_path_factory.mktemp("logmel")
    random = np.random.default_rng(0)
    for name in ("one", "two"):
        array = random.integers(0, 256, (CLIPS, 128, 100)).astype(np.uint8)
        array[:, 5, 7] = 255
        if name == "two":
            array[0] = array[1]  # the same recording twice
        with lzma.open(folder / f"{name}.npy.xz", "wb") as stream:
            np.save(stream, array)
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["track_id", "genre", "artist", "split", "tags"])
            for i in range(CLIPS):
                genre = ["blues", "rock", ""][i % 3]
                writer.writerow([f"c{i}", genre, f"Artist {i // 2}", "valid" if i < 4 else "", "Pop; Noise"])
    return folder


def run(stored, output, *options):
    arguments = [str(stored), "--stored-log-mels", "--output", str(output), "--hop-length", "2048", *options]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return shardset.load(output)


@pytest.fixture(scope="module")
def written(stored, tmp_path_factory):
    return run(stored, tmp_path_factory.mktemp("shards"), "--tracks-per-shard", "5", "--workers", "1")


def read_all(written):
    return {f.track.track_id: (f, labels) for f, labels in shardset.read(written, list(written.splits))}


def test_a_shard_goes_through_a_plan_unchanged():
    labels = Labels(("jazz", "rock"), "train", "An Artist")
    planned = shards.ShardPlan("train-0", "train", ((Track("/m/ä.mp3", "ä.mp3", 1, 1700000000.123456), labels),))
    again = shards.ShardPlan.from_row(planned.to_row())
    assert again == planned
    assert again.fingerprint(FRONT_END) == planned.fingerprint(FRONT_END)


def test_every_clip_is_in_exactly_one_shard_with_its_labels(written):
    records = [(f.track.track_id, labels) for f, labels in shardset.read(written, list(written.splits))]
    assert len(records) == len({track_id for track_id, _ in records}) == 2 * CLIPS
    found = dict(records)
    assert found["one/c0"].genres == ("blues",)
    assert found["one/c0"].split == "valid"
    assert found["one/c2"].genres == ()
    assert found["one/c9"].group == "Artist 4"


def test_stored_levels_become_half_decibels_with_the_loudest_at_forty(stored, written):
    features, _ = read_all(written)["one/c3"]
    with lzma.open(stored / "one.npy.xz") as stream:
        clip = np.load(stream)[3]
    assert features.log_mel.shape == (50, 128)  # every second of 100 frames
    assert features.front_end == FRONT_END.fingerprint()
    expected_db = clip.T[::2] / 255 * 80 - 80 + 40
    np.testing.assert_allclose(features.log_mel * 0.5 - 80, expected_db, atol=0.25 + 1e-4)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Stored log-Mels of two hops: one clip of hop 1024, and 20 songs of two parts each that are every second frame of
    such clips; nobody knows half of their artists."""
    folder = tmp_path_factory.mktemp("parts")
    random = np.random.default_rng(1)
    whole = random.integers(0, 256, (41, 128, 646)).astype(np.uint8)
    for name, array in (("fine", whole[40:]), ("coarse", whole[:40, :, ::2])):
        with lzma.open(folder / f"{name}.npy.xz", "wb", preset=0) as stream:
            np.save(stream, array)
    (folder / "fine.csv").write_text("track_id,genre,artist\nf0,rock,A\n")
    rows = [f"s{i // 2},{i % 2 + 1},rock,{f'Artist {i // 4}' if i < 20 else 'unknown'}" for i in range(40)]
    (folder / "coarse.csv").write_text("\n".join(["track_id,part,genre,artist", *rows]) + "\n")
    return folder, whole


def test_clips_of_the_coarser_hop_are_read_as_they_are_and_of_the_finer_every_second_frame(parts, tmp_path):
    folder, whole = parts
    records = read_all(run(folder, tmp_path))
    assert len(records) == 41
    for track_id, clip in (("coarse/s3-2", 7), ("fine/f0", 40)):
        levels = records[track_id][0].log_mel
        expected_db = whole[clip].T[::2] / 255 * 80 - 40
        assert levels.shape == (323, 128)
        np.testing.assert_allclose(levels * 0.5 - 80, expected_db, atol=0.25 + 1e-4)


def test_parts_of_a_song_are_on_one_side_whether_its_artist_is_known_or_not(parts, tmp_path):
    folder, _ = parts
    _, labels = shards.stored_log_mels(folder, None)
    assigned = labelling.assign_splits(labels, {"train": 0.5, "valid": 0.5})
    assert {label.split for label in assigned.values()} == {"train", "valid"}
    for song in range(20):
        first, second = (assigned[f"coarse/s{song}-{part}"] for part in (1, 2))
        assert first.split == second.split
        assert fold_of(first.group, 5) == fold_of(second.group, 5)
    assert len({label.group for track_id, label in labels.items() if track_id.startswith("coarse/")}) == 5 + 10


def test_clips_of_a_coarser_hop_than_wanted_are_refused(parts, tmp_path):
    folder, _ = parts
    options = ["--stored-log-mels", "--output", str(tmp_path / "out"), "--hop-length", "1024"]
    result = CliRunner().invoke(command, [str(folder), *options])
    assert isinstance(result.exception, UsageError)
    assert "coarse.npy.xz: stored with hop 2048, too coarse; give --hop-length 2048" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_summary_counts_what_was_written(written):
    split = written.splits["valid"]
    assert (split.tracks, split.genres, split.unlabelled) == (8, {"blues": 4, "rock": 2}, 2)
    assert written.labels == ("blues", "rock")
    assert sum(s.tracks for s in written.splits.values()) == 2 * CLIPS
    assert ["two/c0", "two/c1"] in written.notes["duplicates"]
    assert all("one/c" not in pair[0] for pair in written.notes["duplicates"])


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).glob("*.tfrecord")}


@pytest.mark.slow
def test_shards_are_the_same_whoever_writes_them(stored, written, tmp_path):
    again = run(stored, tmp_path, "--tracks-per-shard", "5", "--workers", "2")
    assert digests(tmp_path) == digests(written.path)
    assert again.fingerprint == written.fingerprint


def test_finished_shards_are_not_written_again(stored, tmp_path):
    run(stored, tmp_path, "--tracks-per-shard", "5", "--workers", "1")
    first, second, *_ = sorted(tmp_path.glob("*.tfrecord"))
    before = first.stat().st_mtime_ns
    second.unlink()
    (tmp_path / "valid-00009-of-00010.tfrecord").write_bytes(b"of another run")
    run(stored, tmp_path, "--tracks-per-shard", "5", "--workers", "1")
    assert first.stat().st_mtime_ns == before
    assert second.exists()
    assert not (tmp_path / "valid-00009-of-00010.tfrecord").exists()


def test_claims_fill_in_for_a_missing_genre(stored, tmp_path):
    claims = tmp_path / "claims.json"
    claims.write_text(json.dumps({"tags": {"Pop": ["rock", "blues"]}}))
    with_claims = run(stored, tmp_path / "out", "--claims", str(claims), "--workers", "1")
    assert read_all(with_claims)["one/c5"][1].genres == ("blues", "rock")
    assert read_all(with_claims)["one/c3"][1].genres == ("blues",)


def test_the_first_column_that_claims_something_counts_and_names_with_semicolons_stay_whole(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text(
        "track_id,genre,artist,tags\n"
        "a,,Harry Connick; Jr.,Pop\n"  # AllMusic writes commas so
        "b,,Somebody,Pop;Blues\n"
        "c,rock,Harry Connick; Jr.,Pop\n"
        "d,,Nobody,\n"
    )
    claims = {"artist": {"Harry Connick; Jr.": ["jazz"]}, "tags": {"Pop": ["pop"], "Blues": ["blues"]}}
    found = {track: labels.genres for track, labels in labelling.from_table(table, claims).items()}
    assert found == {"a": ("jazz",), "b": ("blues", "pop"), "c": ("rock",), "d": ()}


def test_the_claims_that_come_along_name_the_ten_genres_only():
    from genrebeam.model import bundle

    labels = set(bundle.load_config(bundle.SHIPPED["gtzan10"]).labels)
    claims = [genres for values in labelling.gtzan10_claims().values() for genres in values.values()]
    assert {genre for genres in claims for genre in genres} == labels
    assert all(len(set(genres)) == len(genres) > 0 for genres in claims)


def write_wav(path, *, seconds=5, hz=440.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = (np.sin(2 * np.pi * hz * np.arange(seconds * 22050) / 22050) * 20000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes(samples.tobytes())


@pytest.mark.slow
def test_audio_goes_the_way_of_tagging_and_what_cannot_be_heard_is_a_reject(tmp_path):
    library = tmp_path / "library"
    for genre, hz in (("jazz", 300.0), ("metal", 3000.0)):
        for number in range(2):
            write_wav(library / genre / f"{genre}.0000{number}.wav", hz=hz + 500 * number)
    (library / "jazz" / "jazz.00054.wav").write_bytes(b"RIFF but nothing else")
    result = CliRunner().invoke(
        command,
        [str(library), "--output", str(tmp_path / "out"), "--split-shares", "train=1", "--workers", "1"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    made = shardset.load(tmp_path / "out")
    assert made.splits["train"].genres == {"jazz": 2, "metal": 2}
    loudest = {f.track.track_id: f.log_mel.mean(axis=0).argmax() for f, _ in shardset.read(made, ["train"])}
    assert loudest["jazz/jazz.00000.wav"] < loudest["metal/metal.00000.wav"]
    rejects = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert [row["track_id"] for row in rejects] == ["jazz/jazz.00054.wav"]
    assert "jazz.00054" in rejects[0]["message"]


@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_a_killed_run_ends_with_all_that_it_started_and_the_same_command_goes_on(tmp_path, victim):
    import psutil

    for i in range(24):
        synth.write(tmp_path / "music" / "blues" / f"{i:02d}.wav", synth.music(5.0, seed=i))
    output = tmp_path / "out"
    command = [*GENREBEAM, "shards", tmp_path / "music", "--output", output, "--quiet"]
    command = [str(part) for part in [*command, "--tracks-per-shard", "2", "--workers", "2"]]
    process = psutil.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not any((output / ".parts").glob("*.json")):
        assert process.poll() is None
        time.sleep(0.05)
    started = process.children(recursive=True)
    (workers_of(process)[-1] if victim == "worker" else process).kill()
    _, said = process.communicate(timeout=300)
    assert process.returncode == (1 if victim == "worker" else -signal.SIGKILL), said
    assert psutil.wait_procs(started, timeout=30)[1] == []
    finished = {part.name: part.stat().st_mtime_ns for part in (output / ".parts").glob("*.json")}
    assert 0 < len(finished) < 12

    assert subprocess.run(command, cwd=ROOT, timeout=300).returncode == 0
    assert {name: (output / ".parts" / name).stat().st_mtime_ns for name in finished} == finished
    assert sum(split.tracks for split in shardset.load(output).splits.values()) == 24


def test_gtzans_published_split_has_its_published_sizes():
    splits = labelling.gtzan_splits()
    counts = {name: list(splits.values()).count(name) for name in ("train", "valid", "test")}
    assert counts == {"train": 443, "valid": 197, "test": 290}
    assert splits["blues.00012"] == "test"
    assert splits["jazz.00054"] == "train"


def test_folders_name_genres_and_gtzans_names_bring_its_split():
    small = labelling.from_folders(["blues/a.mp3", "rock/sub/b.mp3", "loose.mp3"])
    assert {track: label.genres for track, label in small.items()} == {
        "blues/a.mp3": ("blues",),
        "rock/sub/b.mp3": ("rock",),
    }
    gtzan = labelling.from_folders(f"blues/blues.{i:05d}.wav" for i in range(100))
    assert gtzan["blues/blues.00012.wav"].split == "test"
    assert "excluded" not in {label.split for label in gtzan.values()}  # no blues clip is at fault


def test_a_table_may_list_several_genres_and_nobody_is_no_artist(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,genre,artist\na.mp3,rock; pop,Queen\nb.mp3,jazz,Unknown Artist\nc.mp3,jazz,unknown artist\n")
    found = labelling.from_table(table)
    assert found["a.mp3"] == Labels(("rock", "pop"), "", "Queen")
    assert found["b.mp3"].group != found["c.mp3"].group


def test_fma_metadata(tmp_path):
    table = tmp_path / "tracks.csv"
    table.write_text(
        ",set,track,artist\n,split,genre_top,name\ntrack_id,,,\n2,training,Hip-Hop,AWOL\n137,validation,,Nobody\n140,test,Rock,X\n"
    )
    found = labelling.from_fma(table)
    assert found == {
        "000/000002.mp3": Labels(("Hip-Hop",), "train", "AWOL"),
        "000/000140.mp3": Labels(("Rock",), "test", "X"),
    }
    table.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"not FMA's tracks\.csv"):
        labelling.from_fma(table)


def test_an_artist_with_a_given_split_takes_the_other_tracks_along():
    given = {"a": Labels(("x",), "valid", "Queen"), "b": Labels(("x",), "", "queen "), "c": Labels((), "", "z")}
    assigned = labelling.assign_splits(given, {"train": 1.0})
    assert {track: label.split for track, label in assigned.items()} == {"a": "valid", "b": "valid", "c": "unlabelled"}
    assert labelling.straddling(assigned) == {}
    assert labelling.straddling(given | {"d": Labels(("x",), "train", "Queen")}) == {"queen": ["", "train", "valid"]}


def test_a_signature_survives_gain_and_tells_recordings_apart():
    random = np.random.default_rng(1)
    songs = [random.integers(60, 200, (300, 128)).astype(np.uint8) for _ in range(2)]
    songs[1][:150] //= 2
    signatures = {
        "song": shards.signature(songs[0]).ravel().tolist(),
        "softer": shards.signature(songs[0] - np.uint8(30)).ravel().tolist(),
        "other": shards.signature(songs[1]).ravel().tolist(),
    }
    assert shards.duplicates(signatures, FrontEnd()) == [["softer", "song"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "LABELS", "--corrections"], "give one of"),
        (["--claims", "nowhere.json", "--stored-log-mels"], "name a JSON file"),
        (["--split-shares", "train", "--stored-log-mels"], "write it like"),
        (["--stored-log-mels"], "no NAME.npy.xz"),
        (["--hop-length", "4096"], "--hop-length 4096: front end"),
        (["--labels", "LABELS"], "needs a column"),
    ],
)
def test_mistakes_are_named(tmp_path, options, message):
    table = tmp_path / "labels.csv"
    table.write_text("who,what\n1,2\n")
    library = tmp_path / "library"
    library.mkdir()
    arguments = [str(table) if option == "LABELS" else option for option in options]
    result = CliRunner().invoke(command, [str(library), "--output", str(tmp_path / "out"), *arguments])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_a_library_without_labels_for_it_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no track of the library has a label"):
        shards.write_shards(
            shards.plan([Track("/a", "a", 1, 0.0)], {}),
            shards.StoredLogMels(tmp_path, FRONT_END),
            tmp_path,
            front_end=FRONT_END,
            labels=(),
            engine=Engine(),
        )
