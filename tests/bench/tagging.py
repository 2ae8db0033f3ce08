"""What `genrebeam tag` costs, part by part and as a whole, and whether it hears what it should.

    python tests/bench/tagging.py [--data FOLDER] [--json FILE] [parts whole startup memory agreement ...]

Prints figures and asserts nothing. FOLDER holds `library/` (labelled clips) and `logmel/` (their stored log-Mels);
without it only synthesised music is measured. Seconds drift with the machine and what else it does: CPU is measured
where it can be, and only figures of one run may be compared. docs/benchmarks.md keeps those of each version.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime as dt
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path

ENVIRONMENT = dict(os.environ)  # of the commands that are measured
# Parts are measured on one thread. Before NumPy is loaded, or its threads are there.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import soundfile  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import synth  # noqa: E402

SONG_S = 240
ROUNDS = 10
MANY = 40  # copies of the four songs
COVERAGES_S = (30, 60, 120)
FIGURES: dict[str, dict[str, float]] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    # Memory before this process imports TensorFlow: the pages of its library would be shared with the workers.
    parser.add_argument("what", nargs="*", default=["memory", "parts", "whole", "startup", "agreement", "coverage"])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--json", type=Path, default=ROOT / ".cache" / "bench.json")
    arguments = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="genrebeam-bench-") as scratch:
        for what in arguments.what:
            globals()[f"bench_{what}"](Path(scratch), arguments.data)
    about = {**before, "load_after": os.getloadavg()[0]}
    print("machine")
    for name, value in about.items():
        print(f"  {name:<56}{value:>12}")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"machine": about, **FIGURES}, indent=1) + "\n")
    print(f"-> {arguments.json}")


def machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return {
        "measured": f"{dt.date.today()}",
        "genrebeam": metadata.version("genrebeam"),
        "processor": model,
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def show(section: str, **figures: float) -> None:
    """Figures are shown as they come. A name ends in its unit, or is a ratio."""
    if section not in FIGURES:
        print(section)
    FIGURES.setdefault(section, {}).update(figures)
    for name, value in figures.items():
        print(f"  {name.replace('_', ' '):<56}{value:>12,.{2 if abs(value) < 100 else 0}f}", flush=True)


def song(path: Path, seed: int = 0) -> Path:
    """Four minutes of MP3, 44.1 kHz stereo, 192 kbit/s."""
    samples = synth.music(SONG_S, seed=seed, sample_rate_hz=44_100, channels=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"bitrate_mode": "CONSTANT", "compression_level": 0.4444}
    with soundfile.SoundFile(path, "w", 44_100, 2, "MPEG_LAYER_III", format="MP3", **options) as file:
        file.write(samples)
    return path


def bench_parts(scratch: Path, data: Path) -> None:
    """Each part alone on one thread, CPU milliseconds for one song; the parts take turns."""
    from scipy import fft

    from genrebeam.features.chunks import segments_of
    from genrebeam.features.decode import AudioBlock
    from genrebeam.features.extract import extract, stream_log_mel, to_mono
    from genrebeam.features.limits import ExtractLimits
    from genrebeam.features.mel import log_mel
    from genrebeam.model.bundle import DEFAULT, load_config
    from genrebeam.model.predictor import BatchedScorer, BundlePredictor

    path = song(scratch / "song.mp3")
    predictor = BundlePredictor(load_config(DEFAULT))
    front_end = predictor.front_end
    stereo = soundfile.read(path, dtype="float32", always_2d=True)[0]
    blocks = [AudioBlock(stereo[i : i + (1 << 16)], 44_100) for i in range(0, len(stereo), 1 << 16)]
    mono = [to_mono(block) for block in blocks]
    samples = np.concatenate(mono)
    levels, _ = extract(path, front_end)
    frames = np.random.default_rng(0).standard_normal((64, 2 * front_end.n_fft)).astype(np.float32)

    def ffts() -> None:
        for _ in range(0, len(levels), len(frames)):
            fft.rfft(frames.copy(), axis=1, overwrite_x=True)

    def network() -> None:
        scorer: BatchedScorer[int] = BatchedScorer(predictor)
        for _ in range(4):  # as in a library, where batches are full
            list(scorer.push(0, segments_of(levels, front_end)))
        list(scorer.flush())

    cpu_ms = in_turns(
        {
            "decode_libsndfile": lambda: decode(path),
            "decode_ffmpeg": lambda: decode_ffmpeg(path),
            "mix_to_mono": lambda: [to_mono(block) for block in blocks],
            "resample": lambda: resampled(mono, front_end.sample_rate_hz),
            "mel": lambda: log_mel(samples, front_end, 2),  # without resampling, which other rates need
            "mel_ffts_alone": ffts,
            "from_file_to_levels": lambda: list(stream_log_mel(path, front_end, ExtractLimits())),
            "network": network,
        }
    )
    cpu_ms["network"] /= 4
    show("parts, CPU ms per song on one thread", **cpu_ms)
    by_tutorial = tutorial(path)
    show("parts, CPU ms per song on one thread", tutorials_way=by_tutorial)
    decoding = cpu_ms["decode_libsndfile"]
    show(
        "parts, ratios",
        mel_to_its_ffts=cpu_ms["mel"] / cpu_ms["mel_ffts_alone"],
        mel_and_network_to_decoding=(cpu_ms["mel"] + cpu_ms["network"]) / decoding,
        network_to_decoding=cpu_ms["network"] / decoding,
        levels_and_network_to_decoding=(cpu_ms["from_file_to_levels"] + cpu_ms["network"]) / decoding,
        tutorials_way_to_decoding=by_tutorial / decoding,
        tutorials_way_to_levels_and_network=by_tutorial / (cpu_ms["from_file_to_levels"] + cpu_ms["network"]),
    )


def in_turns(parts: dict[str, Callable[[], object]]) -> dict[str, float]:
    """CPU milliseconds of each, the least of rounds in which each has its turn: what a busy machine disturbs least."""
    passes: dict[str, list[float]] = {name: [] for name in parts}
    with silence():
        for _ in range(ROUNDS):
            for name, part in parts.items():
                began = time.process_time()
                part()
                passes[name].append(1000 * (time.process_time() - began))
    return {name: min(times) for name, times in passes.items()}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Without what libmpg123 says of damaged frames."""
    silenced, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(silenced, 2)


def decode(path: Path) -> None:
    """To float32 in blocks by libsndfile, and nothing else."""
    with soundfile.SoundFile(path) as file:
        while len(file.read(1 << 16, dtype="float32", always_2d=True)):
            pass


def decode_all(paths: list[Path]) -> None:
    with silence():
        for path in paths:
            decode(path)


def decoding_at_once(songs: list[Path], processes: int) -> float:
    """Wall seconds a song, where so many processes do nothing but decode: what company costs on this machine."""
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(decode_all, [songs] * processes))  # all are there
        began = time.monotonic()
        list(pool.map(decode_all, [songs * ROUNDS] * processes))
        return (time.monotonic() - began) / processes / len(songs) / ROUNDS


def decode_ffmpeg(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        for _ in container.decode(audio=0):
            pass


def resampled(mono: list, to_hz: int) -> list:
    import soxr

    stream = soxr.ResampleStream(44_100, to_hz, 1, dtype="float32", quality="HQ")
    return [stream.resample_chunk(block, last=block is mono[-1]) for block in mono]


def tutorial(path: Path) -> float:
    """CPU milliseconds of the tutorials: librosa.load, a Mel spectrogram per chunk, 150 x 150 pixels, a large CNN."""
    import keras
    import librosa
    import tensorflow as tf

    network = keras.Sequential([keras.Input((150, 150, 1))])
    for filters in (32, 64, 128, 256, 512):
        network.add(keras.layers.Conv2D(filters, 3, padding="same", activation="relu"))
        network.add(keras.layers.Conv2D(filters, 3, activation="relu"))
        network.add(keras.layers.MaxPool2D())
    for layer in (keras.layers.Flatten(), keras.layers.Dense(1200, "relu"), keras.layers.Dense(10, "softmax")):
        network.add(layer)

    def hear() -> None:
        samples, rate = librosa.load(path, sr=22_050)
        chunk, step = 4 * rate, 2 * rate
        pictures = [
            librosa.feature.melspectrogram(y=samples[i : i + chunk], sr=rate)[..., np.newaxis]
            for i in range(0, len(samples) - chunk, step)
        ]
        network.predict(np.stack([tf.image.resize(picture, (150, 150)) for picture in pictures]), verbose=0)

    librosa.feature.melspectrogram(y=np.zeros(22_050, np.float32), sr=22_050)  # compiles what it needs
    network.predict(np.zeros((32, 150, 150, 1), np.float32), verbose=0)
    began = time.process_time()
    hear()
    return 1000 * (time.process_time() - began)


class Usage:
    """CPU seconds and, if asked for, peak memory of a process with all its descendants, sampled while it runs.

    Memory is the proportional set size, so that pages which processes share are counted once. To look costs CPU, which
    those who are measured miss where they use all cores: the two are not measured at once, and CPU not often.
    """

    def __init__(self, command: list, *, memory: bool = False) -> None:
        self._cpu: dict[int, float] = {}
        self._memory = memory
        self.peak_bytes = 0
        began = time.monotonic()
        process = psutil.Popen([str(c) for c in command], cwd=ROOT, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
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
        while not stop.wait(0.25 if self._memory else 0.5):
            total = 0
            try:
                family = [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    times = member.cpu_times()
                    self._cpu[member.pid] = times.user + times.system
                    if self._memory:
                        total += member.memory_full_info().pss
            self.peak_bytes = max(self.peak_bytes, total)


def genrebeam(*arguments: object, memory: bool = False) -> Usage:
    return Usage([sys.executable, "-m", "genrebeam", *arguments], memory=memory)


def tag(output: Path, *arguments: object, workers: int = 2, memory: bool = False) -> Usage:
    return genrebeam("tag", "--output", output, "--quiet", "--workers", workers, *arguments, memory=memory)


def must_have_heard(output: Path, tracks: int) -> None:
    """A figure over tracks that were rejected would look splendid."""
    found = pq.read_table(output / "results").num_rows
    if found != tracks:
        sys.exit(f"{output}: {found} results of {tracks} tracks; nothing measured")


def bench_whole(scratch: Path, data: Path) -> None:
    """The command line. Start-up is taken away by tagging few and many tracks, and dividing the difference."""
    songs = [song(scratch / "songs" / f"{seed}.mp3", seed) for seed in range(4)]
    folder = copies(songs, scratch / "mp3", MANY)
    few, more = len(songs), len(songs) * (MANY - 1)
    decoding = in_turns({"decode": lambda: [decode(path) for path in songs]})["decode"] / 1000 / few
    section = "whole, 4-minute MP3, start-up apart"
    show(section, decoding_alone_CPU_ms=1000 * decoding)

    def marginal(name: str, inputs: tuple[tuple, tuple], workers: int) -> tuple[float, float]:
        """CPU and wall seconds per track."""
        outputs = [scratch / f"{name}-{workers}-{i}" for i in range(2)]
        least, most = (tag(o, *i, workers=workers) for o, i in zip(outputs, inputs, strict=True))
        must_have_heard(outputs[1], few + more)
        return (most.cpu_s - least.cpu_s) / more, (most.wall_s - least.wall_s) / more

    audio, kept = (((folder / "0",), (folder,)), [scratch / "kept" / str(i) for i in range(2)])
    one, one_wall = marginal("full", audio, 1)
    two, two_wall = marginal("full", audio, 2)
    show(
        section,
        one_worker_CPU_ms=1000 * one,
        two_workers_CPU_ms=1000 * two,
        ratio_to_decoding_one_worker=one / decoding,
        ratio_to_decoding_two_workers=two / decoding,
        CPU_s_per_hour_of_audio=3600 / SONG_S * one,
        x_real_time_per_core=SONG_S / one,
        two_workers_as_fast_as_one_times=one_wall / two_wall,
        two_decoders_as_fast_as_one_times=decoding_at_once(songs, 1) / decoding_at_once(songs, 2),
    )
    for seconds in COVERAGES_S:
        options = ("--coverage", seconds)
        part, _ = marginal(f"coverage-{seconds}", tuple((*folders, *options) for folders in audio), 1)
        ratios = {"CPU_ms": 1000 * part, "ratio_to_decoding": part / decoding, "ratio_to_full": part / one}
        show(section, **{f"coverage_{seconds}_{name}": value for name, value in ratios.items()})
    for output, folders in zip(kept, audio, strict=True):
        tag(scratch / f"{output.name}-keeping", *folders, "--features-output", output)
    stored, _ = marginal("stored", tuple(("--features-input", output) for output in kept), 1)
    show(section, features_input_CPU_ms=1000 * stored, features_input_times_cheaper=one / stored)
    if (data / "library").is_dir():
        suffixes = (".mp3", ".flac", ".ogg", ".opus")
        clips = [path for path in sorted((data / "library").rglob("*")) if path.suffix in suffixes]
        folder, few, more = copies(clips, scratch / "clips", 4), len(clips), 3 * len(clips)
        decoding = in_turns({"decode": lambda: [decode(path) for path in clips]})["decode"] / 1000 / few
        clip, _ = marginal("clips", ((folder / "0",), (folder,)), 2)
        section = "whole, 30-second clip, start-up apart"
        show(section, decoding_alone_CPU_ms=1000 * decoding, CPU_ms=1000 * clip, ratio_to_decoding=clip / decoding)


def copies(files: list[Path], folder: Path, count: int) -> Path:
    for copy in range(count):
        for i, path in enumerate(files):
            link = folder / str(copy) / f"{i}{path.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return folder


def bench_startup(scratch: Path, data: Path) -> None:
    """From the command to its end."""
    synth.write(scratch / "one" / "x.wav", synth.music(5, seed=0))
    runs = {
        "help": [genrebeam("--help") for _ in range(4)][1:],
        "tag_one_short_track": [tag(scratch / f"one-out-{i}", scratch / "one") for i in range(4)][1:],
    }
    for name, usages in runs.items():
        wall_s, cpu_s = (float(np.median([getattr(u, what) for u in usages])) for what in ("wall_s", "cpu_s"))
        show("start-up to exit, two workers, median of three", **{f"{name}_wall_s": wall_s, f"{name}_CPU_s": cpu_s})


def bench_memory(scratch: Path, data: Path) -> None:
    """Peak memory of all processes together: for two files of ten hours and of four minutes, one for each worker, and
    for the library's clips, by the number of workers.
    """
    minute = (synth.music(60, seed=1)[:, 0] * 32767).astype(np.int16)
    peaks = {}
    for name, minutes in (("four_minutes_MB", 4), ("ten_hours_MB", 600)):
        path = scratch / name / "mix.flac"
        path.parent.mkdir()
        with soundfile.SoundFile(path, "w", 22_050, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        (path.parent / "again.flac").symlink_to(path)
        peaks[name] = tag(scratch / f"{name} out", path.parent, memory=True).peak_bytes / 1e6
    show("peak memory of all processes, two workers", **peaks)
    if (data / "library").is_dir():
        by_workers = {}
        for count in range(1, 5):
            usage = tag(scratch / f"by {count}", data / "library", workers=count, memory=True)
            by_workers[f"workers_{count}_MB"] = usage.peak_bytes / 1e6
        show("peak memory of all processes, the library's clips", **by_workers)


def bench_agreement(scratch: Path, data: Path) -> None:
    """The library's clips against their stored log-Mels: the same genres, the same accuracy."""
    if not (data / "logmel").is_dir():
        return
    tag(scratch / "agreement", data / "library", "--model", "gtzan10")
    rows = {r["track_id"]: r for r in pq.read_table(scratch / "agreement" / "results").to_pylist()}
    with (data / "library" / "labels.csv").open(encoding="utf-8") as file:
        labels = list(csv.DictReader(file))
    stored = stored_scores(data)
    # A few of the excluded clips have no stored log-Mel.
    heard = [(x, rows[x["path"]], stored[x["track_id"]]) for x in labels if x["track_id"] in stored]
    genres = rows[labels[0]["path"]]["labels"]
    same = np.mean([row["genre"] == genres[scores.mean(axis=0).argmax()] for _, row, scores in heard])
    pairs = [(np.array(row["chunk_scores"]), scores) for _, row, scores in heard]
    shared = [min(len(a), len(b)) for a, b in pairs]
    audio = np.concatenate([a[:n].ravel() for (a, _), n in zip(pairs, shared, strict=True)])
    log_mel = np.concatenate([b[:n].ravel() for (_, b), n in zip(pairs, shared, strict=True)])
    show(
        "clips from audio and from log-Mels computed elsewhere",
        clips=len(heard),
        the_same_genre_share=float(same),
        correlation_of_chunk_scores=float(np.corrcoef(audio, log_mel)[0, 1]),
    )
    for split in ("train", "valid"):
        chosen = [h for h in heard if h[0]["split"] == split]
        from_audio = np.mean([row["genre"] == label["genre"] for label, row, _ in chosen])
        from_stored = np.mean([genres[s.mean(axis=0).argmax()] == label["genre"] for label, _, s in chosen])
        accuracies = {"from_audio": float(from_audio), "from_stored": float(from_stored)}
        named = {f"{split}_share_right_{name}": value for name, value in accuracies.items()}
        show("clips from audio and from log-Mels computed elsewhere", **{f"{split}_clips": len(chosen)}, **named)


def bench_coverage(scratch: Path, data: Path) -> None:
    """The library's clips heard in part against the same heard whole. They are short, mostly 30 seconds."""
    if not (data / "library").is_dir():
        return
    genres: dict[str, dict[str, dict]] = {}
    for coverage in ("full", "18", "12", "6"):
        tag(scratch / f"coverage-{coverage}", data / "library", "--coverage", coverage)
        table = pq.read_table(scratch / f"coverage-{coverage}" / "results")
        genres[coverage] = {row["track_id"]: row for row in table.to_pylist()}
    with (data / "library" / "labels.csv").open(encoding="utf-8") as file:
        labels = {row["path"]: row["genre"] for row in csv.DictReader(file)}
    whole = genres["full"]
    sure = [name for name, row in whole.items() if row["confidence"] >= 0.5 and row["unknown"] <= 0.5]
    show("30-second clips heard in part", clips=len(whole), clips_sure_when_whole=len(sure))
    for coverage, rows in genres.items():
        same = [rows[name]["genre"] == whole[name]["genre"] for name in whole]
        right = [rows[name]["genre"] == labels[name] for name in whole]
        figures = {
            "the_same_genre_share": float(np.mean(same)),
            "the_same_genre_share_of_sure": float(np.mean([rows[n]["genre"] == whole[n]["genre"] for n in sure])),
            "right_share": float(np.mean(right)),
        }
        show("30-second clips heard in part", **{f"coverage_{coverage}_{k}": v for k, v in figures.items()})


def stored_scores(data: Path) -> dict[str, np.ndarray]:
    """Chunk scores of the stored log-Mels, float32 [chunks, genres] by track_id."""
    from genrebeam.features.chunks import segments_of
    from genrebeam.model.bundle import SHIPPED, load_config
    from genrebeam.model.predictor import BatchedScorer, BundlePredictor
    from genrebeam.pipelines.jobs.shards import StoredLogMels, stored_log_mels

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
    genres = len(bundle.labels)
    return {track_id: answers[:, :genres] for track_id, answers in scores.items()}


if __name__ == "__main__":
    main()
