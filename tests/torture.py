"""kill -9 at random moments during apply and undo: `make torture`, or python tests/torture.py [--kills 200] [--seed 1].

With --engine the files are written by Beam's local runner with two workers, and driver or workers are killed in turn.

A library of every container is tagged by a child process that is killed without warning, again and again. After every
kill each file must be, byte for byte, either its old self or its new one. Now and then a run is let through to its end:
then all files must be what an uninterrupted run makes of them, with nothing left beside them, and the newest row that
the journal has of each must tell of the file as it is. Then the same with undo.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import psutil  # noqa: E402
import tagfiles  # noqa: E402
from processes import workers_of  # noqa: E402
from rich.console import Console  # noqa: E402

from genrebeam.pipelines.apply.options import ApplyOptions  # noqa: E402
from genrebeam.pipelines.dataset import journal  # noqa: E402
from genrebeam.pipelines.engine.runner import LOCAL_RUNNER  # noqa: E402
from genrebeam.pipelines.jobs import apply as jobs  # noqa: E402
from genrebeam.pipelines.tags.policy import TagPolicy  # noqa: E402
from genrebeam.pipelines.tags.read import read_tags  # noqa: E402

ROOT = Path(__file__).parents[1]
OPTIONS = ApplyOptions(tags=TagPolicy(policy="overwrite"), yes=True, quiet=True, workers=2)


def build(folder: Path, copies: int) -> tuple[Path, Path]:
    """A music folder with `copies` files of every kind, and results that hear blues in all of them."""
    music, output = folder / "music", folder / "out"
    music.mkdir()
    for kind in tagfiles.MAKERS:
        path = tagfiles.make(music, kind, f"{kind}-0")
        tagfiles.fill(path, kind, "Other")
        if kind == "mp3":  # a large one keeps the copying busy for longer
            path.write_bytes(path.read_bytes() * 400)
        for number in range(1, copies):
            shutil.copyfile(path, path.with_name(f"{kind}-{number}{path.suffix}"))
    tagfiles.results(output, {path: [("blues", 0.9)] for path in sorted(music.iterdir())}, root=music)
    return music, output


def state(music: Path) -> dict[str, bytes]:
    """Every file but the copies in the making."""
    return {p.name: p.read_bytes() for p in music.iterdir() if not p.name.startswith(".genrebeam-")}


def leftovers(music: Path) -> list[str]:
    return [p.name for p in music.iterdir() if p.name.startswith(".genrebeam-")]


def in_child(act: str, output: Path, kill_after_s: float | None) -> bool:
    """Run apply or undo in a fresh process, which has no threads but its own; True if it ended by itself.

    Args:
        act: name of a function of genrebeam.pipelines.jobs.apply.
        kill_after_s: from the moment that it begins to work.
    """
    command = [sys.executable, str(Path(__file__)), "--act", act, str(output)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            child.kill()
        code = child.wait()
    assert code in (0, -signal.SIGKILL), f"a run ended with exit code {code}"
    return code == 0


def on_engine(rng: random.Random, counts: Counter[str], output: Path, kill_after_s: float | None) -> bool:
    """Run apply on Beam's local runner, and kill its driver or a worker; True if it ended well all the same."""
    command = [sys.executable, "-m", "genrebeam", "apply", output, "--yes", "--write-tags", "overwrite", "--quiet"]
    flags = ["--runner", LOCAL_RUNNER, "--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]
    driver = psutil.Popen([*map(str, command), *flags], cwd=ROOT, stderr=subprocess.DEVNULL)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        family = driver.children(recursive=True)
        workers = workers_of(driver)
        victims = [driver] if rng.random() < 0.5 or not workers else workers
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself
            if driver.poll() is None:
                rng.choice(victims).kill()
                counts["drivers" if victims == [driver] else "workers"] += 1
        driver.wait(timeout=900)
        _, left = psutil.wait_procs(family, timeout=120)
        assert not left, f"left behind: {left}"
    return driver.wait(timeout=3600) == 0


def journal_agrees(music: Path, output: Path) -> bool:
    """Whether the journal's newest word of each file is what the file says."""
    newest = {row["uri"]: row for row in journal.read(output).to_pylist()}
    for entry in map(journal.Entry.from_row, newest.values()):
        with (music / Path(entry.uri).name).open("rb") as file:
            if read_tags(file) != entry.after or os.fstat(file.fileno()).st_size != entry.size_after:
                return False
    return len(newest) == len(state(music))


def torture(folder: Path, *, kills: int, copies: int, seed: int, engine: bool = False) -> Counter[str]:
    """Kill until `kills` processes have died; raises AssertionError with what is wrong."""
    rng = random.Random(seed)
    music, output = build(folder, copies)
    old = state(music)
    counts: Counter[str] = Counter(files=len(old))
    undo = functools.partial(in_child, "undo_results", output)
    apply = functools.partial(*((on_engine, rng, counts) if engine else (in_child, "apply_results")), output)
    took = {apply: timed(apply), undo: 0.0}
    new = state(music)
    took[undo] = timed(undo)
    assert state(music) == old, "undo does not give back every byte"
    assert all(new[name] != old[name] for name in old), "a file was not tagged"
    acts = [(apply, new), (undo, old)]
    while counts["killed"] < kills:
        act, goal = acts[0]
        # Sometimes late, so that runs get far; the delay is random down to the microsecond.
        earliest = 0.4 if engine and act is apply else 0  # an engine takes that long to start its workers
        ended = act(rng.uniform(earliest, 1.2) * took[act])
        counts["killed"] += not ended
        now = state(music)
        assert now.keys() == old.keys(), f"files lost or appeared: {now.keys() ^ old.keys()}"
        for name, data in now.items():
            assert data in (old[name], new[name]), f"{name} is neither the old nor the new file ({len(data)} bytes)"
        counts["copies left by a kill"] += len(leftovers(music))
        if ended or rng.random() < 0.2:
            assert act(None)
            assert state(music) == goal, "the end differs from an uninterrupted run"
            assert not leftovers(music), f"left behind: {leftovers(music)}"
            assert journal_agrees(music, output), "the journal tells of other files"
            counts["runs to the end"] += 1
            acts.reverse()
    assert acts[0][0](None)
    assert state(music) == acts[0][1]
    assert not leftovers(music)
    return counts


def timed(act: Callable[[float | None], bool]) -> float:
    """Seconds that a run takes which nobody disturbs."""
    began = time.monotonic()
    assert act(None)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--copies", type=int, default=12, help="files of each container")
    parser.add_argument("--engine", action="store_true", help="apply on Beam's local runner, with two workers")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to build the library  [default: the temporary one]"
    )
    parser.add_argument("--act", nargs=2, help=argparse.SUPPRESS)  # what a child does
    arguments = parser.parse_args()
    if arguments.act:
        act, output = arguments.act
        print("ready", flush=True)
        getattr(jobs, act)(output, OPTIONS, console=Console(quiet=True))
        return
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        counts = torture(
            Path(folder),
            kills=arguments.kills,
            copies=arguments.copies,
            seed=arguments.seed,
            engine=arguments.engine,
        )
    print(", ".join(f"{count} {name}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
