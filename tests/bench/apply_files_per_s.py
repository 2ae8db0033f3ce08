"""Files per second of `apply` and of `undo`, over 5 MB MP3s on a tmpfs, and where the time goes.

    python tests/bench/apply_files_per_s.py [--files 300] [--workers 2] [--folder /dev/shm] [--profile]

Every file is parsed, copied, fsynced, compared byte for byte with its original, read back by mutagen and renamed;
the journal is written and fsynced every 64 files.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import tagfiles  # noqa: E402

from genrebeam.pipelines.apply import batch as changes  # noqa: E402
from genrebeam.pipelines.apply.options import ApplyOptions  # noqa: E402
from genrebeam.pipelines.jobs import apply  # noqa: E402
from genrebeam.pipelines.tags import opinion  # noqa: E402
from genrebeam.pipelines.tags.policy import TagPolicy  # noqa: E402

_SIZE = 5_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--profile", action="store_true", help="one thread, where its time goes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        _measure(Path(folder), arguments)


def _measure(folder: Path, arguments: argparse.Namespace) -> None:
    music = folder / "music"
    music.mkdir()
    seed = tagfiles.make(folder, "mp3", "seed")
    seed.write_bytes(seed.read_bytes() * (_SIZE // seed.stat().st_size + 1))
    tagfiles.fill(seed, "mp3", None)
    paths = [music / f"{number:05d}.mp3" for number in range(arguments.files)]
    for path in paths:
        shutil.copyfile(seed, path)
    tagfiles.results(folder, {path: [("blues", 0.9)] for path in paths}, root=music)
    options = ApplyOptions(tags=TagPolicy(), yes=True, workers=1 if arguments.profile else arguments.workers)
    profile = cProfile.Profile()
    for name in ("apply", "apply again", "undo", "apply in place"):
        task = apply.new_run(folder, options)
        began, cpu_began = time.perf_counter(), sum(os.times()[:4])
        total, batches = (apply.batches_of_journal if name == "undo" else apply.batches_of_results)(folder)
        if arguments.profile and name == "apply":
            for batch in batches:
                profile.runcall(changes.work_batch, batch, task)
            continue
        report = apply.work(batches, task)
        took = time.perf_counter() - began
        opinion.close()  # now the CPU of FFmpeg's children counts, their start included
        cpu_ms = 1000 * (sum(os.times()[:4]) - cpu_began) / total
        counts = ", ".join(f"{count} {outcome}" for outcome, count in report.outcomes.items())
        print(f"{name}: {total / took:,.0f} files/s, {cpu_ms:.1f} ms of CPU each ({counts})")
    if arguments.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
