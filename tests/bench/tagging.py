"""What `genrebeam tag` costs and whether it hears what it should. Prints figures; asserts nothing.

    python tests/bench/tagging.py --data FOLDER [cost startup memory agreement ...]

FOLDER holds `library/` (labelled clips) and `logmel/` (their stored log-Mels); without it only synthesised
music is measured. Figures drift with the machine: compare ratios, from one run.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import soundfile

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import synth  # noqa: E402

WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["startup", "cost", "memory", "agreement"])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genrebeam-bench-") as scratch:
        for what in arguments.what:
            globals()[f"bench_{what}"](Path(scratch), arguments.data)


class Usage:
    """CPU seconds and peak memory of a process with all its descendants, sampled while it runs.

    Memory is the proportional set size, so that pages which processes share are counted once.
    """

    def __init__(self, command: list) -> None:
        self._cpu: dict[int, float] = {}
        self.peak_bytes = 0
        began = time.monotonic()
        process = psutil.Popen([str(c) for c in command], cwd=ROOT, stdout=subprocess.DEVNULL)
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(process, stop))
        watcher.start()
        code = process.wait()
        self.wall_s = time.monotonic() - began
        stop.set()
        watcher.join()
        if code not in (0, 3):
            sys.exit(f"failed with code {code}: {' '.join(map(str, command))}")

    @property
    def cpu_s(self) -> float:
        return sum(self._cpu.values())

    def _watch(self, process: psutil.Popen, stop: threading.Event) -> None:
        while not stop.wait(0.05):
            total = 0
            try:
                family = [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for member in family:
                try:
                    times = member.cpu_times()
                    self._cpu[member.pid] = times.user + times.system
                    total += member.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    pass
            self.peak_bytes = max(self.peak_bytes, total)


def tag(library: Path, output: Path, *options: str) -> Usage:
    command = [sys.executable, "-m", "pipelines", "tag", library, "--output", output, "--quiet"]
    return Usage([*command, "--workers", str(WORKERS), *options])


def must_have_heard(output: Path, tracks: int) -> None:
    """A figure over tracks that were rejected would look splendid."""
    found = pq.read_table(output / "results").num_rows
    if found != tracks:
        sys.exit(f"{output}: {found} results of {tracks} tracks; nothing measured")


def bench_startup(scratch: Path, data: Path) -> None:
    """From the command to its end, with one track of five seconds."""
    synth.write(scratch / "one" / "x.wav", synth.music(5, seed=0))
    walls = [tag(scratch / "one", scratch / f"one-out-{i}").wall_s for i in range(4)][1:]
    print(
        f"start-up, {WORKERS} workers: {np.median(walls):.1f} s wall for one short track (median of 3, exit included)"
    )


def bench_cost(scratch: Path, data: Path) -> None:
    """CPU of the pipeline per track, start-up apart, against decoding the same files with libsndfile alone.

    Start-up is taken away by tagging few and many tracks, and dividing the difference.
    """
    songs = scratch / "songs"
    for seed in range(4):
        music = synth.music(240, seed=seed, sample_rate_hz=44_100, channels=2)
        synth.write(songs / f"{seed}.mp3", music, sample_rate_hz=44_100)
    sets = {"4-minute MP3, 44.1 kHz stereo": (sorted(songs.iterdir()), 10)}
    if (data / "library").is_dir():
        clips = [p for p in sorted((data / "library").rglob("*")) if p.suffix in (".mp3", ".flac", ".ogg", ".opus")]
        sets["30-second clips of the library"] = (clips, 4)
    for name, (files, copies) in sets.items():
        folder = scratch / name.split()[0]
        for copy in range(copies):
            for i, path in enumerate(files):
                link = folder / str(copy) / f"{i}{path.suffix}"
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
        alone = decoding_cpu_s(files)
        few = tag(folder / "0", scratch / f"{folder.name}-few")
        many = tag(folder, scratch / f"{folder.name}-many")
        must_have_heard(scratch / f"{folder.name}-many", len(files) * copies)
        per_track = (many.cpu_s - few.cpu_s) / (len(files) * (copies - 1))
        decoding = alone / len(files)
        print(
            f"{name}: decoding alone {1000 * decoding:.1f} ms, pipeline {1000 * per_track:.1f} ms CPU per track, "
            f"ratio {per_track / decoding:.2f}; {len(files) * copies} tracks in {many.wall_s:.0f} s wall"
        )


def decoding_cpu_s(files: list[Path]) -> float:
    """CPU seconds that libsndfile needs for all the files, to float32 in blocks; median of three passes."""
    silenced, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # libmpg123 comments on each damaged frame
    passes = []
    for _ in range(3):
        began = time.process_time()
        for path in files:
            with soundfile.SoundFile(path) as file:
                while len(file.read(1 << 16, dtype="float32", always_2d=True)):
                    pass
        passes.append(time.process_time() - began)
    os.dup2(silenced, 2)
    return float(np.median(passes))


def bench_memory(scratch: Path, data: Path) -> None:
    """Peak memory of all processes together for ten hours of audio in one file, over that for four minutes."""
    minute = (synth.music(60, seed=1)[:, 0] * 32767).astype(np.int16)
    peaks = {}
    for name, minutes in (("four minutes", 4), ("ten hours", 600)):
        path = scratch / name / "mix.flac"
        path.parent.mkdir()
        with soundfile.SoundFile(path, "w", 22_050, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        peaks[name] = tag(path.parent, scratch / f"{name} out").peak_bytes / 1e6
    short, long = peaks["four minutes"], peaks["ten hours"]
    print(f"peak memory: {short:.0f} MB for four minutes, {long:.0f} MB for ten hours, growth {long - short:.0f} MB")


def bench_agreement(scratch: Path, data: Path) -> None:
    """The library's clips against their stored log-Mels: the same genres, the same accuracy."""
    if not (data / "logmel").is_dir():
        print("agreement: needs --data")
        return
    tag(data / "library", scratch / "agreement", "--model", "gtzan10")
    rows = {r["track_id"]: r for r in pq.read_table(scratch / "agreement" / "results").to_pylist()}
    with (data / "library" / "labels.csv").open(encoding="utf-8") as file:
        labels = list(csv.DictReader(file))
    stored = stored_scores(data)
    print(f"library: {len(labels)} tracks, {len(rows)} rows")
    # A few of the excluded clips have no stored log-Mel.
    heard = [(x, rows[x["path"]], stored[x["track_id"]]) for x in labels if x["track_id"] in stored]
    genres = rows[labels[0]["path"]]["labels"]
    same = np.mean([row["genre"] == genres[scores.mean(axis=0).argmax()] for _, row, scores in heard])
    pairs = [(np.array(row["chunk_scores"]), scores) for _, row, scores in heard]
    shared = [min(len(a), len(b)) for a, b in pairs]
    audio = np.concatenate([a[:n].ravel() for (a, _), n in zip(pairs, shared, strict=True)])
    log_mel = np.concatenate([b[:n].ravel() for (_, b), n in zip(pairs, shared, strict=True)])
    correlation = np.corrcoef(audio, log_mel)[0, 1]
    print(f"audio against stored log-Mels: {same:.1%} the same genre, chunk scores correlate {correlation:.3f}")
    for split in ("train", "valid", "all"):
        chosen = [h for h in heard if split in (h[0]["split"], "all")]
        from_audio = np.mean([row["genre"] == label["genre"] for label, row, _ in chosen])
        from_stored = np.mean([genres[s.mean(axis=0).argmax()] == label["genre"] for label, _, s in chosen])
        print(
            f"accuracy on {split} ({len(chosen)}): {from_audio:.1%} from audio, {from_stored:.1%} from stored log-Mels"
        )


def stored_scores(data: Path) -> dict[str, np.ndarray]:
    """Chunk scores of the stored log-Mels, float32 [chunks, genres] by track_id."""
    from features.chunks import segments_of
    from model.bundle import SHIPPED, load_config
    from model.predictor import BatchedScorer, BundlePredictor
    from pipelines.jobs.shards import StoredLogMels, stored_log_mels

    bundle = load_config(SHIPPED["gtzan10"])
    front_end = bundle.front_end
    source = StoredLogMels(data / "logmel", front_end)
    source.open()
    tracks, _ = stored_log_mels(data / "logmel", None)
    scorer: BatchedScorer[str] = BatchedScorer(BundlePredictor(bundle))
    scores: dict[str, np.ndarray] = {}
    for track in tracks:
        name, _, track_id = track.track_id.partition("/")
        if name == "gtzan":
            levels = source.read(track).log_mel
            scores.update(scorer.push(track_id, segments_of(levels, front_end)))
    scores.update(scorer.flush())
    return {track_id: said[:, :-1] for track_id, said in scores.items()}


if __name__ == "__main__":
    main()
