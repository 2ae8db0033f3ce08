"""Results in buckets: what is written, read, locked and gone on with there is what it is on a disk."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import buckets
import pyarrow.parquet as pq
import pytest
import synth
import tagfiles
import tiny_shards
from commandline import GENREBEAM, ROOT, shown_by
from rich.console import Console

from genrebeam.features.errors import LedgerError, UsageError
from genrebeam.features.schema import Rejection, Track
from genrebeam.model import shardset
from genrebeam.model.bundle import DEFAULT
from genrebeam.pipelines.dataset.dataset import REJECTS_DIR, RESULTS_DIR, Dataset
from genrebeam.pipelines.dataset.inputs import shards_at
from genrebeam.pipelines.dataset.ledger import newest_results, read_rows
from genrebeam.pipelines.engine.runner import LOCAL_RUNNER, Engine
from genrebeam.pipelines.jobs import tag
from genrebeam.pipelines.storage import folders, objects
from genrebeam.pipelines.storage.folders import folder_at

PER_RUN = ["run_id", "processed_at", "uri", "mtime", "sample"]  # the last one of local files only


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Any]:
    with buckets.bucket_of(request.param) as made:
        yield made


@pytest.fixture(params=["disk", "s3", "gs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a dataset can be."""
    if request.param == "disk":
        yield str(tmp_path / "out")
        return
    with buckets.bucket_of(request.param) as made:
        yield made.url("some/out")


def rejection(name: str) -> Rejection:
    return Rejection(Track(f"/m/{name}", name, 1, 0.0), "extract", "Silent", "nothing to hear")


def ids(dataset: Dataset) -> list[str]:
    return sorted(read_rows(dataset, REJECTS_DIR)["track_id"].to_pylist())


def test_rows_that_were_added_are_there_and_files_of_others_are_not_touched(place: str) -> None:
    dataset = Dataset.at(place)
    assert not dataset.exists
    assert len(dataset.rows(RESULTS_DIR)) == 0
    dataset.add_rejects("run-1", [rejection("a")])
    dataset.add_rejects("run-1", [rejection("b"), rejection("c")])
    assert dataset.exists
    assert len(dataset.files(REJECTS_DIR)) == 2
    assert ids(dataset) == ["a", "b", "c"]


def test_merging_keeps_every_row_and_leaves_one_file_for_each_run(place: str) -> None:
    dataset = Dataset.at(place)
    for number in range(6):
        dataset.add_rejects(f"run-{number % 2}", [rejection(f"{number}")])
    dataset.add_rejects("run-9", [rejection("alone")])
    with dataset.lock():
        dataset.merge(REJECTS_DIR)
        names = dataset.files(REJECTS_DIR)
        dataset.merge(REJECTS_DIR)
    assert dataset.files(REJECTS_DIR) == names
    assert [name.startswith(f"run-{run}") for name, run in zip(names, "019", strict=True)] == [True] * 3
    assert ids(dataset) == ["0", "1", "2", "3", "4", "5", "alone"]


def test_a_kill_while_files_are_merged_leaves_rows_twice_which_count_once(place: str, monkeypatch: Any) -> None:
    dataset = Dataset.at(place)
    track = Track("/m/a.mp3", "a.mp3", 1, 0.0)
    for second, genre in enumerate(("jazz", "rock")):
        when = dt.datetime(2026, 1, 1, 0, 0, second, tzinfo=dt.timezone.utc)
        dataset.add(RESULTS_DIR, "run-1", tagfiles.result_rows({track: [(genre, 0.9)]}, when=when))

    def killed(self: Any, name: str) -> None:
        raise KeyboardInterrupt

    before = newest_results(dataset).to_pylist()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(dataset.folder), "delete", killed)
        dataset.merge(RESULTS_DIR)
    assert len(dataset.rows(RESULTS_DIR)) == 4
    assert newest_results(dataset).to_pylist() == before
    dataset.merge(RESULTS_DIR)
    assert newest_results(dataset).to_pylist() == before
    assert before[0]["genre"] == "rock"


def test_who_reads_while_files_are_merged_reads_every_row(place: str, monkeypatch: Any) -> None:
    """A merge comes between the listing of the files and their reading, and again in the middle of it."""
    dataset = Dataset.at(place)
    tracks = [Track(f"/m/{n}.mp3", f"{n}.mp3", 1, 0.0) for n in range(4)]

    def add() -> None:
        for track in tracks:
            dataset.add(RESULTS_DIR, "run-1", tagfiles.result_rows({track: [("jazz", 0.9)]}))
            dataset.add_rejects("run-1", [rejection(track.track_id + " as well")])

    add()
    wanted = newest_results(dataset)["track_id"].to_pylist()
    read, calls = Dataset.read, iter(range(1000))

    def read_late(self: Dataset, kind: str, *arguments: Any) -> Any:
        if next(calls) in (2, 6):
            with monkeypatch.context() as patch:
                patch.setattr(Dataset, "read", read)
                dataset.merge(kind)
        return read(self, kind, *arguments)

    monkeypatch.setattr(Dataset, "read", read_late)
    assert newest_results(dataset)["track_id"].to_pylist() == wanted == [t.track_id for t in tracks]
    assert next(calls) > 6
    monkeypatch.setattr(Dataset, "read", read)
    add()
    calls = iter(range(1000))
    monkeypatch.setattr(Dataset, "read", read_late)
    assert set(dataset.rows(REJECTS_DIR)["track_id"].to_pylist()) == {f"{t.track_id} as well" for t in tracks}


def test_a_write_that_fails_leaves_nothing_where_readers_look(place: str) -> None:
    folder = folder_at(place)
    with pytest.raises(RuntimeError), folder.new("a.parquet") as path:
        path.write_bytes(b"half")
        raise RuntimeError
    assert folder.names() == []
    for text in (b"one", b"two"):
        with folder.new("a.txt") as path:
            path.write_bytes(text)
    with folder.open("a.txt") as file:
        assert (file.read(), file.seek(1), file.read(1)) == (b"two", 1, b"w")
    folder.delete("a.txt")
    folder.delete("a.txt")
    with pytest.raises(FileNotFoundError):
        folder.open("a.txt")


def test_a_damaged_file_is_named(place: str) -> None:
    dataset = Dataset.at(place)
    with (dataset.folder / RESULTS_DIR).new("x.parquet") as path:
        path.write_bytes(b"no parquet")
    with pytest.raises(LedgerError, match=rf"{place}/results/x.parquet: not a readable results file"):
        newest_results(dataset)


def test_two_runs_cannot_hold_one_folder(place: str) -> None:
    with Dataset.at(place).lock(), pytest.raises(UsageError, match="another genrebeam is writing here"):
        Dataset.at(place).lock().__enter__()
    with Dataset.at(place).lock():
        pass


@pytest.mark.parametrize("hours", [-48, 0, 48])  # that the clock of this machine differs by from the store's
def test_the_lease_of_a_run_that_died_ends_and_is_taken_over(bucket: Any, hours: int, monkeypatch: Any) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    place = bucket.url("out")
    bucket.write("out/.genrebeam-lock", json.dumps({"holder": "nobody", "lasts_s": 60}).encode())
    with pytest.raises(UsageError, match=r"another genrebeam .* if it died, for (59|60) seconds"):
        folder_at(place).lock().__enter__()
    bucket.write("out/.genrebeam-lock", json.dumps({"holder": "nobody", "lasts_s": -1}).encode())
    with folder_at(place).lock(), pytest.raises(UsageError, match="another genrebeam"):
        folder_at(place).lock().__enter__()
    assert "out/.genrebeam-lock" not in bucket.names()
    assert not [name for name in bucket.names() if "lock" in name]


def test_a_lease_is_renewed_while_its_run_lives(bucket: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(folders, "LEASE_S", 2.0)
    with folder_at(bucket.url("out")).lock():
        first = bucket.read("out/.genrebeam-lock")
        deadline = time.monotonic() + 30
        while bucket.read("out/.genrebeam-lock") == first:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_bucket_that_may_not_be_written_is_one_line_before_any_work(bucket: Any) -> None:
    bucket.moods.refuse = 403
    with pytest.raises(UsageError, match="cannot write results here"):
        folder_at(bucket.url("out")).lock().__enter__()


@pytest.mark.parametrize("bucket", ["gs"], indirect=True)  # the other's library refuses before it asks
def test_who_comes_without_credentials_is_told_where_to_get_them(bucket: Any) -> None:
    bucket.moods.refuse = 401
    with pytest.raises(UsageError, match=r"gs://: .*`gcloud auth application-default login` gives"):
        folder_at(bucket.url("out")).lock().__enter__()


@pytest.mark.parametrize("url", ["hdfs://host/out", "http://host/out", "s3://", "gs:///", "file://", ""])
def test_places_that_cannot_hold_results_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match=url or "names no folder"):
        folder_at(url)


def test_parts_of_an_object_are_read_without_the_rest(bucket: Any) -> None:
    data = os.urandom(5 << 20)
    bucket.write("big", data)
    with objects.open_object(bucket.url("big")) as file:
        assert file.seek(-7, os.SEEK_END) == len(data) - 7
        assert file.read() == data[-7:]
        file.seek(1 << 20)
        assert file.read(3 << 20) == data[1 << 20 : 4 << 20]


@pytest.mark.slow
def test_from_bucket_to_bucket(bucket: Any, tmp_path: Path) -> None:
    """The whole life of a dataset: rows as local ones, going on, features, a bundle, tags and their undoing."""
    for seed, suffix in enumerate(("mp3", "flac", "m4a", "wav")):
        path = synth.write(tmp_path / "music" / f"{seed}.{suffix}", synth.music(6.0, seed=seed))
        bucket.write(f"music/{path.name}", path.read_bytes())
    for file in DEFAULT.iterdir():
        bucket.write(f"bundle/{file.name}", file.read_bytes())
    songs = {name: bucket.read(name) for name in bucket.names() if name.startswith("music/")}
    out, here = bucket.url("out"), tmp_path / "out"
    shown_by("tag", tmp_path / "music", "--output", here, "--quiet")
    run = ("tag", bucket.url("music"), "--output", out, "--model", bucket.url("bundle"), "--workers", "2")
    shown = shown_by(*run, "--features-output", bucket.url("features"), "--format", "csv")
    assert "tagged 4" in shown and f"{out}/results.csv" in shown
    local, remote = (newest_results(where).drop_columns(PER_RUN).to_pylist() for where in (here, out))
    assert remote == local
    kept = {name.split("/")[1] for name in bucket.names() if name.startswith("out/")}
    assert {name for name in kept if not name.startswith("run-")} <= {"results", "results.csv", "logs"}

    assert "done before 4" in shown_by(*run)
    again = bucket.url("again")
    shown_by("tag", "--features-input", bucket.url("features"), "--output", again, "--quiet", "--workers", "1")
    assert newest_results(again, ["track_id", "genre"]) == newest_results(out, ["track_id", "genre"])

    assert "changed 4" in shown_by("apply", out, "--yes", "--min-confidence", "0", "--max-unknown", "1")
    assert "have it already 4" in shown_by("apply", out, "--yes", "--min-confidence", "0", "--max-unknown", "1")
    assert all(bucket.read(name) != data for name, data in songs.items())
    assert "done before 4" in shown_by(*run)
    assert "changed 4" in shown_by("undo", out, "--yes")
    assert {name: bucket.read(name) for name in songs} == songs


@pytest.mark.slow
def test_stretches_of_a_track_in_a_bucket_cost_their_bytes(bucket: Any, tmp_path: Path) -> None:
    path = synth.write(tmp_path / "music" / "long.flac", synth.music(600.0, seed=2))
    tagfiles.fill(path, "flac", "Jazz")
    bucket.write("music/long.flac", path.read_bytes())
    bucket.moods.reset()
    places = {bucket.url("music"): bucket.url("out"), tmp_path / "music": tmp_path / "out"}
    for library, output in places.items():
        shown_by("tag", library, "--output", output, "--coverage", "60", "--workers", "1", "--quiet")
    remote, local = (newest_results(output).drop_columns(PER_RUN).to_pylist() for output in places.values())
    assert remote == local
    assert remote[0]["coverage_s"] == 60
    assert remote[0]["genre_before"] == ["Jazz"]
    assert bucket.moods.sent_bytes < path.stat().st_size / 3


def test_a_manifest_may_lie_here_and_what_it_names_may_not(bucket: Any, tmp_path: Path, monkeypatch: Any) -> None:
    launched: list[list[str]] = []

    def launch(job: tag.Job) -> None:
        with job.dataset.folder.open(job.plan) as plan:
            launched.append(pq.read_table(plan)["uri"].to_pylist())

    monkeypatch.setattr(tag, "run_pipeline", launch)
    monkeypatch.setattr(Engine, "check", lambda self, **_: None)  # nobody is at that address
    manifest = tmp_path / "inventory.txt"
    there = [bucket.url(f"in/{name}.mp3") for name in "ab"]
    for name in "ab":
        bucket.write(f"in/{name}.mp3", b"x")
    engine = Engine("FlinkRunner", flags=("--flink_master", "host:8081"))
    options = tag.TagOptions((str(manifest),), bucket.url("out"), None, engine)
    for here in ("here.mp3", "cover.jpg"):
        manifest.write_text("\n".join([there[0], here, there[1], "further.mp3"]))
        with pytest.raises(UsageError, match=f"the track {tmp_path / here}: the workers of FlinkRunner cannot see"):
            tag.tag(options, Console(quiet=True))
        assert not launched
        assert bucket.names() == ["in/a.mp3", "in/b.mp3"]
    manifest.write_text("\n".join(there))
    assert tag.tag(options, Console(quiet=True)).found == 2
    assert launched == [there]


@pytest.mark.slow
def test_a_killed_run_goes_on_in_a_bucket(bucket: Any, tmp_path: Path, monkeypatch: Any) -> None:
    count = 48  # enough that a loaded machine kills it in the middle
    for i in range(count):
        synth.write(tmp_path / "music" / f"{i:02d}.wav", synth.music(5.0, seed=i))
    out = bucket.url("out")
    command = [*GENREBEAM, "tag", tmp_path / "music", "--output", out, "--workers", "1"]
    process = subprocess.Popen([*map(str, command), "--quiet", "--write-every", "0"], cwd=ROOT)
    deadline = time.monotonic() + 120
    while not [name for name in bucket.names() if name.startswith("out/results/")]:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(read_rows(out, RESULTS_DIR))
    assert 0 < kept < count
    assert "another genrebeam is writing here" in shown_by(*command[3:], code=2)
    lease = json.loads(bucket.read("out/.genrebeam-lock"))
    bucket.write("out/.genrebeam-lock", json.dumps(lease | {"lasts_s": -1}).encode())  # time goes by
    assert f"done before {kept}" in shown_by(*command[3:])
    assert sorted(read_rows(out, RESULTS_DIR)["track_id"].to_pylist()) == [f"{i:02d}.wav" for i in range(count)]


@pytest.mark.slow
def test_shards_are_the_same_in_a_bucket(bucket: Any, tmp_path: Path) -> None:
    for genre in ("jazz", "rock"):
        for seed in range(2):
            synth.write(tmp_path / "music" / genre / f"{seed}.wav", synth.music(6.0, seed=seed))
    command = ("shards", tmp_path / "music", "--workers", "1", "--tracks-per-shard", "2", "--quiet", "--output")
    shown_by(*command, tmp_path / "here")
    shown_by(*command, bucket.url("shards"))
    there = {name.removeprefix("shards/"): bucket.read(name) for name in bucket.names() if "/logs/" not in name}
    here = {p.name: p.read_bytes() for p in (tmp_path / "here").iterdir() if p.suffix in (".tfrecord", ".json")}
    assert {name: there.get(name) for name in here} == here
    shown_by(*command, bucket.url("shards"))  # nothing is left to do
    for path in tmp_path.glob("music/*/*.wav"):
        bucket.write(str(path.relative_to(tmp_path)), path.read_bytes())
    runner = ("--runner", LOCAL_RUNNER, "--direct_num_workers", "2", "--direct_running_mode=multi_processing")
    shown_by("shards", bucket.url("music"), *command[4:], bucket.url("again"), *runner)
    heard = [
        {one.track.track_id: (one.log_mel.tobytes(), labels) for one, labels in shardset.read(made, list(made.splits))}
        for made in map(shards_at, (str(tmp_path / "here"), bucket.url("again")))
    ]
    assert heard[0] == heard[1]
    assert len(heard[0]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("bucket", ["gs"], indirect=True)  # of the other, shards are read above
def test_training_and_measuring_read_shards_from_a_bucket(bucket: Any, tmp_path: Path) -> None:
    for path in Path(tiny_shards.write(tmp_path / "tiny", train=6, valid=2).path).iterdir():
        bucket.write(f"tiny/{path.name}", path.read_bytes())
    shards, made = bucket.url("tiny"), tmp_path / "bundle"
    shown_by("train", shards, "--output", made, "--epochs", "1", "--batch-size", "16", "--crops-per-track", "2")
    for path in filter(Path.is_file, made.iterdir()):
        bucket.write(f"bundle/{path.name}", path.read_bytes())
    asked = ("--split", "valid", "--output", tmp_path / "report")
    shown_by("evaluate", bucket.url("bundle"), shards, *asked, "--card", made)
    assert "the split `valid` of the shards `tiny`" in (made / "MODEL_CARD.md").read_text()
    compare = ("compare", shards, "--output", tmp_path / "compared", "--algorithm", "k-NN", "--no-leaky")
    assert "k-NN" in shown_by(*compare)


@pytest.mark.parametrize("command", ["train", "evaluate", "compare"])
def test_shards_that_are_not_in_the_bucket_are_one_line(bucket: Any, tmp_path: Path, command: str) -> None:
    bundle = [DEFAULT] if command == "evaluate" else []
    for place, says in (
        (bucket.url("nowhere"), f"{bucket.url('nowhere')}: no dataset.json; give a folder that `genrebeam shards`"),
        (f"{bucket.scheme}://absent/shards", f"{bucket.scheme}://absent/shards/: cannot be listed"),
    ):
        told = shown_by(command, *bundle, place, "--output", tmp_path / "out", code=2)
        assert says in told
    refused = shown_by(command, *bundle, bucket.url("nowhere"), "--output", bucket.url("out"), code=2)
    assert f"{bucket.url('out')}: give a local folder" in refused
    assert not (tmp_path / "out").exists()
