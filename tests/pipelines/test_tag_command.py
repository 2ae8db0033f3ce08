"""`genrebeam tag` as a process of its own: the main job, going on after a kill, and what users get wrong."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import synth
from commandline import GENREBEAM, ROOT, genrebeam

from genrebeam.features.errors import UsageError
from genrebeam.features.limits import ExtractLimits
from genrebeam.pipelines.dataset.export import export
from genrebeam.pipelines.dataset.ledger import newest_results
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.jobs.tag_options import TagOptions
from genrebeam.pipelines.tags.policy import spelled

SUFFIXES = ("mp3", "flac", "ogg", "opus", "m4a", "wav")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    import mutagen

    root = tmp_path_factory.mktemp("library")
    for seed, suffix in enumerate(SUFFIXES):
        synth.write(root / "Some Artist" / f"{seed}.{suffix}", synth.music(9.0, seed=seed, channels=2))
    tags = mutagen.File(root / "Some Artist" / "1.flac")
    tags["genre"] = ["Jazz", "Bebop"]
    tags.save()
    (root / "cover.jpg").write_bytes(b"no picture either")
    (root / "broken.mp3").write_bytes(b"ID3 but nothing behind it" * 40)
    return root


@pytest.fixture(scope="module")
def tagged(library, tmp_path_factory):
    output = tmp_path_factory.mktemp("tagged") / "out"
    arguments = ["tag", library, "--output", output, "--workers", "2", "--format", "csv", "--format", "jsonl"]
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in library.rglob("*") if p.is_file()}
    process = genrebeam(*arguments, "--features-output", output.parent / "features")
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in library.rglob("*") if p.is_file()}
    return output, process, arguments


def results(output):
    return pq.read_table(output / "results").to_pandas()


def test_a_library_of_six_formats_becomes_six_rows_and_one_reject(tagged):
    output, process, _ = tagged
    table = results(output)
    assert sorted(table["track_id"]) == sorted(f"Some Artist/{i}.{s}" for i, s in enumerate(SUFFIXES))
    assert set(table["codec"]) == {"mp3", "flac", "vorbis", "opus", "aac", "pcm_s16"}
    for row in table.to_dict("records"):
        assert row["genre"] in row["labels"]
        assert 0 < row["confidence"] <= 1
        assert len(row["chunk_scores"]) == 3
    rejects = pq.read_table(output / "rejects").to_pandas().set_index("track_id")
    assert rejects["error"].to_dict() == {"broken.mp3": "NotAudio", "cover.jpg": "NotAudio"}
    assert rejects["stage"].to_dict() == {"broken.mp3": "extract", "cover.jpg": "discover"}
    assert process.stderr == ""
    assert "tagged" in process.stdout
    assert "rejected" in process.stdout


def test_the_commands_that_it_ends_with_work_in_a_shell(tagged):
    output, process, _ = tagged
    (line,) = [line for line in process.stdout.splitlines() if line.startswith("to see what would be written: ")]
    run = subprocess.run(line.partition(": ")[2], shell=True, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0
    assert "would change" in run.stdout
    assert f"apply {output}\n" in process.stdout
    shown = {words for count, words in re.findall(r"^ +(\d+)  (.+?) *$", process.stdout, re.MULTILINE)}
    assert shown == {spelled(genre) for genre in results(output).genre}


def test_the_files_own_genres_are_recorded(tagged):
    before = results(tagged[0]).set_index("track_id")["genre_before"]
    assert list(before["Some Artist/1.flac"]) == ["Jazz", "Bebop"]
    assert list(before["Some Artist/0.mp3"]) == []


def test_pandas_duckdb_and_pyarrow_read_it_without_glue(tagged):
    output = tagged[0]
    assert len(pd.read_parquet(output / "results")) == 6
    query = f"select genre, confidence, top[1].genre as first, len(chunk_scores) from '{output}/results/*.parquet'"
    rows = duckdb.sql(query).fetchall()
    assert len(rows) == 6
    assert all(genre == first for genre, _, first, _ in rows)


def test_exports_hold_the_same_rows(tagged):
    output = tagged[0]
    table = results(output).sort_values("track_id")
    flat = pd.read_csv(output / "results.csv")
    assert list(flat["track_id"]) == list(table["track_id"])
    assert list(flat["genre"]) == list(table["genre"])
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    assert {line["track_id"]: line["genre"] for line in lines} == dict(
        zip(table["track_id"], table["genre"], strict=True)
    )
    assert lines[0]["top"][0]["genre"] == lines[0]["genre"]


def test_the_old_name_of_a_format_is_understood(tagged, tmp_path):
    output, _, _ = tagged
    shutil.copytree(output, tmp_path / "out")
    (tmp_path / "out" / "results.jsonl").unlink()
    assert export(tmp_path / "out", "json") == f"{tmp_path / 'out'}/results.jsonl"
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == (output / "results.jsonl").read_bytes()


def test_the_run_report_accounts_for_every_file(tagged):
    (path,) = tagged[0].glob("run-*.json")
    report = json.loads(path.read_text())
    assert report["status"] == "finished"
    assert (report["found"], report["tagged"], report["rejected"], report["not_audio"]) == (8, 6, 1, 1)
    assert sum(report["genres"].values()) == 6
    assert report["audio_s"] == pytest.approx(54, abs=1)
    assert report["versions"]["apache-beam"]


def test_nothing_is_left_behind(tagged):
    output = tagged[0]
    names = {p.name for p in output.iterdir() if not p.name.startswith("run-")}
    assert names == {"results", "rejects", "logs", "results.csv", "results.jsonl", ".genrebeam-lock"}
    children = subprocess.run(["pgrep", "-f", "genrebeam.features.isolated"], capture_output=True, text=True)
    for pid in children.stdout.split():  # of other tests or runs, never orphans
        assert Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1] != "1"


def test_a_second_run_has_nothing_to_do_and_a_changed_file_is_heard_again(tagged, library):
    output, _, arguments = tagged
    again = genrebeam(*arguments)
    assert "done before  7" in again.stdout
    assert len(results(output)) == 6
    synth.write(library / "Some Artist" / "5.wav", synth.music(11.0, seed=50))
    genrebeam(*arguments, "--workers", "1")
    newest = results(output).sort_values("processed_at").groupby("track_id").last()
    assert len(results(output)) == 7
    assert newest.loc["Some Artist/5.wav", "duration_s"] == pytest.approx(11)


def test_kept_features_give_the_same_genres_without_the_audio(tagged, tmp_path):
    output = tagged[0]
    genrebeam("tag", "--features-input", output.parent / "features", "--output", tmp_path / "out", "--quiet")
    first = results(output).sort_values("processed_at").groupby("track_id").first()
    again = results(tmp_path / "out").set_index("track_id")
    assert again["genre"].to_dict() == first["genre"].to_dict()
    assert list(again.loc["Some Artist/1.flac", "genre_before"]) == ["Jazz", "Bebop"]


def test_a_killed_run_goes_on_and_ends_like_one_that_was_not(library, tmp_path):
    output = tmp_path / "out"
    many = tmp_path / "many"
    for i in range(24):
        synth.write(many / f"{i:02d}.wav", np.tile(synth.music(5.0, seed=i), (60, 1)))
    command = [*GENREBEAM, "tag", many, "--output", output, "--workers", "1", "--quiet"]
    process = subprocess.Popen([*map(str, command), "--write-every", "0"], cwd=ROOT)
    deadline = time.monotonic() + 120
    while not list((output / "results").glob("*.parquet")):
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    committed = results(output)
    assert 0 < len(committed) < 24
    genrebeam("tag", many, "--output", output, "--quiet")
    table = results(output)
    assert sorted(table["track_id"]) == [f"{i:02d}.wav" for i in range(24)]  # each once
    assert not [p for p in output.iterdir() if "staging" in p.name or "progress" in p.name]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{tmp}/nowhere", "--output", "{tmp}/o"], "{tmp}/nowhere: no such library"),
        (["{tmp}/empty", "--output", "{tmp}/o"], "{tmp}/empty: nothing in it"),
        (["{tmp}/empty", "--output", "{tmp}/file"], "{tmp}/file"),
        (["{tmp}/empty", "--output", "{tmp}/file/below"], "{tmp}/file/below: a file is in the way"),
        (["{tmp}/list.csv", "--output", "{tmp}/o"], "{tmp}/list.csv: a manifest needs a column `uri`"),
        (["{tmp}/empty", "--output", "{tmp}/o", "--model", "{tmp}/empty"], "{tmp}/empty"),
        (["{tmp}/empty", "--output", "{tmp}/corrupt"], "{tmp}/corrupt/results/x.parquet: not a readable results file"),
        (["{tmp}/empty", "--output", "{tmp}/o", "--vote", "loudest"], "'mean', 'majority', 'confidence'"),
        (["{tmp}/empty", "--output", "{tmp}/o", "--wrkers", "2"], "No such option"),
        (["{tmp}/empty", "--output", "{tmp}/o", "--workers", "0"], "--workers must be at least 1"),
        (["--output", "{tmp}/o"], "give either LIBRARY or --features-input"),
        (["--features-input", "{tmp}/empty", "--output", "{tmp}/o"], "{tmp}/empty: no *.tfrecord in it"),
        (["{tmp}/empty"], "--output"),
    ],
)
def test_mistakes_are_one_line_and_code_2(tmp_path, arguments, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "list.csv").write_text("path\na.mp3\n")
    (tmp_path / "corrupt" / "results").mkdir(parents=True)
    (tmp_path / "corrupt" / "results" / "x.parquet").write_text("x")
    process = genrebeam("tag", *[a.format(tmp=tmp_path) for a in arguments], code=2)
    assert says.format(tmp=tmp_path) in " ".join(process.stderr.split())
    assert process.stdout == ""
    message = [line for line in process.stderr.splitlines() if not line.startswith(("Usage:", "Try ")) and line]
    assert len(message) == 1
    assert not (tmp_path / "o").exists()


def test_a_mistyped_library_leaves_nothing_behind(tmp_path):
    (tmp_path / "there").mkdir()
    for output in ("there", "not/yet/there"):
        genrebeam("tag", tmp_path / "Musik", "--output", tmp_path / output, code=2)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_what_claims_to_be_audio_counts_in_the_share_of_rejects_and_nothing_else(tmp_path):
    library = tmp_path / "library"
    synth.write(library / "song.wav", synth.music(3.0, seed=1))
    (library / "song.wav").rename(library / "song.karaoke")
    for name in ("a.xyz", "b.dat", "no suffix", "c.projectfile"):
        (library / name).write_bytes(b"no music" * 100)
    (library / ".nomedia").touch()
    process = genrebeam("tag", library, "--output", tmp_path / "out", "--workers", "1")
    assert ["not", "audio", "5"] in [line.split()[:3] for line in process.stdout.splitlines()]
    assert list(results(tmp_path / "out")["track_id"]) == ["song.karaoke"]
    (library / "claims.mp3").write_bytes(b"no music" * 100)
    genrebeam("tag", library, "--output", tmp_path / "out", "--workers", "1", code=3)
    (library / "claims.mp3").unlink()
    synth.write(library / "short.wav", synth.music(0.3, seed=1))
    (library / "short.wav").rename(library / "short.by-content")
    genrebeam("tag", library, "--output", tmp_path / "out", "--workers", "1", code=3)


def test_two_runs_into_one_folder_do_not_mix(tmp_path):
    import fcntl

    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".genrebeam-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = genrebeam("tag", tmp_path, "--output", tmp_path / "out", code=2)
    assert "another genrebeam is writing here" in process.stderr


def test_too_many_rejects_leave_with_code_3_after_everything_is_committed(tmp_path):
    for i in range(3):
        (tmp_path / "library").mkdir(exist_ok=True)
        (tmp_path / "library" / f"{i}.mp3").write_bytes(b"no music" * 100)
    process = genrebeam("tag", tmp_path / "library", "--output", tmp_path / "out", "--workers", "1", code=3)
    assert "more than --max-reject-share 20%" in process.stderr
    assert f"genrebeam report {tmp_path / 'out'}" in process.stderr
    assert len(pq.read_table(tmp_path / "out" / "rejects")) == 3


def test_a_worker_that_dies_costs_time_and_no_track(library, tmp_path):
    import psutil

    many = tmp_path / "many"
    for i in range(40):
        synth.write(many / f"{i:02d}.wav", synth.music(5.0, seed=i))
    output = tmp_path / "out"
    command = [*GENREBEAM, "tag", many, "--output", output, "--workers", "2", "--quiet"]
    process = psutil.Popen([str(c) for c in command], cwd=ROOT)
    deadline = time.monotonic() + 120
    while True:  # until a worker has started its decoder: it is in the middle of the run then
        assert process.poll() is None
        assert time.monotonic() < deadline
        children = [
            c for c in process.children(recursive=True) if "genrebeam.features.isolated" in " ".join(c.cmdline())
        ]
        if children:
            break
        time.sleep(0.05)
    children[0].parent().kill()
    assert process.wait(timeout=200) == 0
    assert sorted(results(output)["track_id"]) == [f"{i:02d}.wav" for i in range(40)]
    assert not (output / "rejects").exists()


def test_tags_are_written_only_when_asked_and_confirmed_and_come_off_again(library, tmp_path):
    import shutil

    import mutagen

    mine = tmp_path / "mine"
    shutil.copytree(library / "Some Artist", mine)
    before = {p.name: p.read_bytes() for p in mine.iterdir()}
    arguments = [
        "tag",
        mine,
        "--output",
        tmp_path / "out",
        "--write-tags",
        "fill",
        "--min-confidence",
        "0",
        "--max-unknown",
        "1",
    ]
    refused = genrebeam(*arguments, code=2)
    assert "add --yes" in refused.stderr
    assert not (tmp_path / "out" / "results").exists()  # refused before the work, not after
    genrebeam(*arguments, "--yes", "--quiet")
    heard = results(tmp_path / "out").set_index("track_id")["genre"]
    written = {p.name: mutagen.File(p, easy=True).get("genre") for p in mine.iterdir() if p.suffix != ".wav"}
    assert written["1.flac"] == ["Jazz", "Bebop"]  # fill leaves what is there
    assert written["2.ogg"][0].lower().replace("-", "") == heard["2.ogg"]
    again = genrebeam(*arguments, "--yes")
    assert "done before  6" in again.stdout  # a tag of our own does not make a file another
    genrebeam("undo", tmp_path / "out", "--yes", "--quiet")
    assert {p.name: p.read_bytes() for p in mine.iterdir()} == before


@pytest.mark.slow
def test_a_library_that_moved_is_followed(library, tmp_path):
    old, new, out = tmp_path / "old", tmp_path / "elsewhere" / "new", tmp_path / "out"
    shutil.copytree(library, old)
    before = {path.relative_to(old): path.read_bytes() for path in old.rglob("*") if path.is_file()}
    write = ["--min-confidence", "0", "--max-unknown", "1", "--write-tags", "overwrite", "--yes"]
    genrebeam("tag", old, "--output", out, "--max-reject-share", "1")
    genrebeam("apply", out, *write)
    new.parent.mkdir()
    old.rename(new)

    again = genrebeam("tag", new, "--output", out, "--max-reject-share", "1")

    (report,) = (json.loads(path.read_text()) for path in sorted(out.glob("run-*.json"))[1:])
    assert (report["tagged"], report["done_before"]) == (0, len(SUFFIXES) + 1), again.stderr
    rows = newest_results(out).to_pylist()
    assert [row["uri"] for row in rows] == [str(new / row["track_id"]) for row in rows]
    assert "have it already" in genrebeam("apply", out, *write).stdout
    assert any((new / name).read_bytes() != data for name, data in before.items())

    genrebeam("undo", out, "--yes")

    assert all((new / name).read_bytes() == data for name, data in before.items())
    assert f"changed  {len(SUFFIXES)}" in genrebeam("apply", out, *write).stdout
    new.rename(old)
    genrebeam("tag", old, "--output", out, "--max-reject-share", "1")
    genrebeam("undo", out, "--yes")
    assert all((old / name).read_bytes() == data for name, data in before.items())


def test_coverage_hears_a_part_of_each_track_and_says_which(tmp_path):
    suffixes = ("mp3", "flac", "ogg", "m4a")
    for seed, suffix in enumerate(suffixes):
        synth.write(tmp_path / "in" / f"{seed}.{suffix}", synth.music(40, seed=seed, channels=2))
    synth.write(tmp_path / "in" / "short.mp3", synth.music(9, seed=9))
    damaged = synth.write(tmp_path / "in" / "damaged.flac", synth.music(40, seed=7))
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    (tmp_path / "in" / "broken.mp3").write_bytes(b"ID3 but nothing behind it" * 40)
    command = ["tag", tmp_path / "in", "--output", tmp_path / "out", "--workers", "1"]

    genrebeam(*command, "--coverage", "12")
    rows = {row["track_id"]: row for row in newest_results(tmp_path / "out").to_pylist()}
    assert len(rows) == 6
    for seed, suffix in enumerate(suffixes):
        row = rows[f"{seed}.{suffix}"]
        assert row["coverage_s"] == 12
        assert row["undecoded_s"] is None
        assert row["duration_s"] == pytest.approx(40, abs=0.2)
        assert row["chunk_starts_s"] == pytest.approx([7, 9, 27, 29], abs=0.2)
        assert len(row["chunk_scores"]) == 4
    for name, seconds in {"short.mp3": 9, "damaged.flac": 20}.items():
        assert rows[name]["coverage_s"] is None
        assert rows[name]["duration_s"] == pytest.approx(seconds, abs=1)
        assert len(rows[name]["chunk_scores"]) == len(rows[name]["chunk_starts_s"]) > 2
    assert rows["damaged.flac"]["undecoded_s"] > 15

    again = genrebeam(*command, "--coverage", "6")
    assert "done before  7" in again.stdout
    more = genrebeam(*command)
    assert "done before  3" in more.stdout
    assert newest_results(tmp_path / "out", ["coverage_s"])["coverage_s"].null_count == 6


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_mute_decoder_must_be_given_some_time(seconds):
    with pytest.raises(UsageError, match="--track-timeout must be between 1 and 3600"):
        TagOptions(("music",), "out", None, Engine(), limits=ExtractLimits(stall_s=seconds))


@pytest.mark.parametrize("coverage", ["5", "nan", "half"])
def test_coverage_must_be_full_or_some_seconds(tmp_path, coverage):
    process = genrebeam("tag", tmp_path, "--output", tmp_path / "out", "--coverage", coverage, code=2)
    assert process.stderr.startswith("genrebeam: --coverage must be ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["apply", "NOWHERE"], "nowhere: no results here"),  # before asking on a terminal that is not there
        (["undo", "NOWHERE"], "nowhere: no results here"),
        (["tag", "LIBRARY", "--output", "FILE"], "a file is in the way of this folder"),
        (["tag", "LIBRARY", "--output", "FILE/below"], "a file is in the way of this folder"),
        (["tag", "LIBRARY", "--output", ""], "--output '' names no folder"),
        (["tag", "LIBRARY", "--output", "NOWHERE", "--features-output", ""], "--features-output '' names no folder"),
        (["tag", "LIBRARY", "--output", "NOWHERE", "--runner", "NoRunner"], "Unexpected pipeline runner: NoRunner"),
        (["shards", "LIBRARY", "--output", "NOWHERE", "--runner", "NoRunner"], "Unexpected pipeline runner: NoRunner"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_mistake_that_was_made_is_the_one_that_is_named(tmp_path, arguments, says):
    synth.write(tmp_path / "library" / "rock" / "a.wav", synth.music(1.5, seed=0))
    (tmp_path / "file").write_text("mine")
    places = {"NOWHERE": "nowhere", "LIBRARY": "library", "FILE": "file", "FILE/below": "file/below"}
    process = genrebeam(*(tmp_path / places[a] if a in places else a for a in arguments), code=2)
    assert says in process.stderr
    assert not (tmp_path / "nowhere").exists()
    assert (tmp_path / "file").read_text() == "mine"


def test_where_too_few_files_may_be_open_a_run_does_not_begin_to_wait(tmp_path):
    synth.write(tmp_path / "library" / "a.wav", synth.music(1.5, seed=0))

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    command = ["tag", tmp_path / "library", "--output", tmp_path / "out", "--workers", "3"]
    assert "only 40 files may be open at a time here" in genrebeam(*command, code=2, preexec_fn=limit).stderr


def test_who_has_seen_enough_does_not_make_a_run_fail():
    code = (
        "import sys; from genrebeam.pipelines.commands.screen import Screen\n"
        "Screen().print('x\\n' * 99_999); sys.exit(3)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        run.stdout.read(1)
        run.stdout.close()
        assert (run.wait(timeout=60), run.stderr.read()) == (3, b"")


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_dry_run_analyses_nothing_and_writes_nothing(library, tagged, tmp_path):
    output, *_ = tagged
    new = genrebeam("tag", library, "--output", tmp_path / "new", "--dry-run")
    assert new.returncode == 0, new.stderr
    assert [line.rstrip() for line in new.stdout.splitlines()] == [
        "would analyse  7  tracks that are new or have changed",
        "not audio      1  covers, playlists and other companions",
    ]
    assert not (tmp_path / "new").exists()
    more = shutil.copytree(library, tmp_path / "more")
    shutil.copy(more / "Some Artist" / "1.flac", more / "new.flac")
    before = everything(output)
    again = genrebeam("tag", more, "--output", output, "--dry-run")
    assert [line.split()[:3] for line in again.stdout.splitlines()] == [
        ["would", "analyse", "1"],
        ["not", "audio", "1"],
        ["done", "before", "7"],
    ]
    assert everything(output) == before


def test_an_output_folder_inside_the_library_is_left_out_and_named(tmp_path):
    synth.write(tmp_path / "music" / "a.flac", synth.music(5.0, seed=0))
    for count in ("1", "0"):
        run = genrebeam("tag", tmp_path / "music", "--output", tmp_path / "music" / "out", "--workers", "1")
        assert run.stdout.split()[:2] == ["tagged", count], run.stderr
        assert f"left out: {tmp_path}/music/out, which lies inside the library" in run.stdout.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("command", [("apply",), ("undo",)])
def test_dry_runs_work_on_results_that_may_not_be_written(tagged, tmp_path, command):
    shutil.copytree(tagged[0], tmp_path / "out")
    bind = ["mount", "--bind", str(tmp_path / "out"), str(tmp_path / "out")]
    if subprocess.run(bind, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(tmp_path / "out")], check=True)
        run = genrebeam(*command, tmp_path / "out", "--dry-run")
        assert (run.returncode, run.stderr) == (0, "")
        assert "would change" in run.stdout
    finally:
        subprocess.run(["umount", str(tmp_path / "out")], check=True)
