"""A catalog of millions of tracks through everything of `tag` but the hearing: `make simulate`, or with [--tracks N].

A bucket that exists on paper only is listed, compared with what is done, and written into a plan; a stand-in for the
engine reads the plan part by part and writes a row for each track; then files are merged and counted. Once more: all is
"done before". Then what `apply` reads before it looks at any file, the CSV, and, over a journal of as many files, what
`undo` reads before it looks at any, and the report. Prints CPU seconds of the driver (what a busy machine does not
falsify) and its peak memory, each command in a process of its own.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from rich.console import Console  # noqa: E402

from genrebeam.pipelines.dataset.dataset import JOURNAL_DIR, RESULTS_DIR  # noqa: E402
from genrebeam.pipelines.dataset.export import export  # noqa: E402
from genrebeam.pipelines.dataset.schema import JOURNAL, RESULTS  # noqa: E402
from genrebeam.pipelines.engine.runner import Engine  # noqa: E402
from genrebeam.pipelines.jobs import apply, report, tag  # noqa: E402
from genrebeam.pipelines.storage import objects  # noqa: E402

GENRES = np.array(["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"])
ROWS_PER_FILE = 5_000  # of ten times as many tracks as a worker writes at a time: the disk is not what is measured
TIMES: dict[str, float] = {}


class PaperBucket:
    """Lists twelve tracks and a cover for each album, in the order of names."""

    def __init__(self, tracks: int) -> None:
        self._tracks = tracks

    def list(self, bucket: str, prefix: str) -> Iterator[tuple[str, int, int]]:
        for number in range(self._tracks):
            album, track = divmod(number, 12)
            folder = f"{prefix}Artist {album // 4:07d}/Album {album:08d}"
            yield f"{folder}/{track:02d} The name of a song.mp3", 5_000_000 + number, 1_700_000_000_000_000 + number
            if track == 11:
                yield f"{folder}/cover.jpg", 100_000, 1_700_000_000_000_000


def note(step: str) -> None:
    """CPU seconds since the step before."""
    TIMES[step] = round(time.process_time() - sum(TIMES.values()), 1)


def hear(job: tag.Job) -> None:
    """In place of the engine, which is not in the driver's process either."""
    note("list, compare, plan")
    command = [sys.executable, __file__, "--hear", str(job.dataset), job.plan, job.run_id, job.bundle.fingerprint]
    subprocess.run(command, check=True)


def write_rows(folder: str, plan: str, run_id: str, fingerprint: str) -> None:
    results = Path(folder, RESULTS_DIR)
    results.mkdir(exist_ok=True)
    chance = np.random.default_rng(1)
    with pq.ParquetFile(Path(folder, plan)) as file:
        for number, batch in enumerate(file.iter_batches(ROWS_PER_FILE)):
            count = len(batch)
            confidence = chance.uniform(0.1, 1.0, count).astype(np.float32)
            scores = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(confidence, 10)), 10)
            now = pa.scalar(dt.datetime.now(dt.timezone.utc), pa.timestamp("us", tz="UTC"))
            given = {
                **{name: batch[name] for name in ("uri", "track_id", "size")},
                "mtime": pa.array(np.rint(batch["mtime"].to_numpy() * 1e6).astype(np.int64)),
                "duration_s": pa.array(chance.uniform(100, 400, count)),
                "genre": pa.array(chance.choice(GENRES, count)),
                "confidence": pa.array(confidence),
                "chunk_scores": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), scores),
            }
            top = [{"genre": genre, "score": 0.3} for genre in GENRES[:3]]
            same = {"top": top, "model_id": "paper", "model_fingerprint": fingerprint, "vote": "mean", "run_id": run_id}
            same["processed_at"] = now
            columns = [
                given[field.name].cast(field.type)
                if field.name in given
                else pa.repeat(pa.scalar(same.get(field.name), field.type), count)
                for field in RESULTS
            ]
            pq.write_table(pa.table(columns, RESULTS), results / f"{run_id}-{number:016x}.parquet", compression="zstd")


def write_journal(folder: str) -> None:
    """As if `apply` had written a genre into each file with a small tag of ID3."""
    journal = Path(folder, JOURNAL_DIR)
    journal.mkdir()
    written = [{"name": name, "values": ["genrebeam paper 2026-01-01"]} for name in ("GENREBEAM", "GENREBEAM_MODEL")]
    fields = [{"position": 3, "raw": b"TCON" + bytes(12)}]
    same = {
        "run_id": "paper",
        "at": dt.datetime.now(dt.timezone.utc),
        "action": "apply",
        "genre_before": ["Rock"],
        "genre_after": ["Blues"],
        "provenance_before": [],
        "provenance_after": written,
        "tags_before": [{"dialect": "id3", "exists": True, "slack": 1024, "fields": fields}],
        "former": [{"start": 10, "stop": 300, "data": bytes(240), "digest": bytes(16)}],
        "temporary": ".genrebeam-0123456789abcdef0123.tmp",
    }
    for result in sorted(Path(folder, RESULTS_DIR).iterdir()):
        with pq.ParquetFile(result) as file:
            for number, batch in enumerate(
                file.iter_batches(ROWS_PER_FILE, columns=["uri", "track_id", "size", "mtime"])
            ):
                mtime_ns = pa.array(batch["mtime"].cast(pa.int64()).to_numpy() * 1000)
                given = {name: batch[name] for name in ("uri", "track_id")}
                given |= dict.fromkeys(("size_before", "size_after"), batch["size"])
                given |= dict.fromkeys(("mtime_ns_before", "mtime_ns_after"), mtime_ns)
                columns = [
                    given.get(field.name, pa.repeat(pa.scalar(same.get(field.name), field.type), len(batch)))
                    for field in JOURNAL
                ]
                table = pa.table(columns, JOURNAL)
                pq.write_table(table, journal / f"paper-{result.stem}{number}.parquet", compression="zstd")


def act(what: str, tracks: int, output: str) -> dict[str, Any]:
    """One of the commands, in this process: seconds of its steps, and its peak memory."""
    objects._STORES["s3"] = functools.partial(PaperBucket, tracks)
    note("start")
    if what == "report":
        counted = report.summarise(output).tracks
        note("report")
    elif what == "apply":
        counted = sum(map(len, apply.batches_of_results(output).batches))
        note("read what to write")
    elif what == "undo":
        counted = sum(map(len, apply.batches_of_journal(output).batches))
        note("read what to undo")
    elif what == "export":
        with open(export(output, "csv"), "rb") as file:
            counted = sum(1 for _ in file) - 1
        note("write CSV")
    else:
        tag.run_pipeline = hear
        Engine.check = lambda self, **_: None
        options = tag.TagOptions(("s3://paper/music",), output, None, Engine("Paper", shared_filesystem=True))
        done = tag.tag(options, Console(quiet=True))
        note("merge, count" if done.launches else "list, compare")
        counted = done.tagged if what == "first" else done.done_before
    assert counted == tracks, f"{counted} of {tracks} tracks"
    return {"seconds": TIMES, "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where results go  [default: the temporary one]")
    parser.add_argument("--act", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--hear", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--journal", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hear:
        write_rows(*arguments.hear)
        return
    if arguments.journal:
        write_journal(arguments.journal)
        return
    if arguments.act:
        print(json.dumps(act(arguments.act[0], arguments.tracks, arguments.act[1])))
        return
    print(f"{arguments.tracks:,} tracks")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        for what in ("first", "again", "apply", "export", "undo", "report"):
            if what == "undo":
                subprocess.run([sys.executable, __file__, "--journal", f"{scratch}/out"], check=True)
            command = [sys.executable, __file__, "--tracks", str(arguments.tracks), "--act", what, f"{scratch}/out"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measured = json.loads(done.stdout.splitlines()[-1])
            steps = ", ".join(f"{name} {seconds:g} s" for name, seconds in measured["seconds"].items())
            print(f"{what:>6}: {measured['peak_gb']:.2f} GB   {steps}", flush=True)
        files = list(os.scandir(f"{scratch}/out/{RESULTS_DIR}"))
        size = sum(entry.stat().st_size for entry in files)
        print(f"results: {len(files)} files, {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
