"""kill -9 at random moments during apply and undo: `make torture`, or python tests/torture.py [--kills 200] [--seed 1].

A library of every container is tagged by a child process that is killed without warning, again and again. After every
kill each file must be, byte for byte, either its old self or its new one. Now and then a run is let through to its end:
then all files must be what an uninterrupted run makes of them, with nothing left beside them. Then the same with undo.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import tagfiles  # noqa: E402
from rich.console import Console  # noqa: E402

from pipelines.jobs.apply import apply_results, undo_results  # noqa: E402
from pipelines.stages.changes import ApplyOptions  # noqa: E402
from pipelines.tags.policy import TagPolicy  # noqa: E402

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


def in_child(act: object, output: Path, kill_after_s: float | None) -> bool:
    """Run apply or undo in a child process; True if it ended by itself."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act(output, OPTIONS, console=Console(quiet=True))  # type: ignore[operator]
            code = 0
        finally:
            os._exit(code)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0, "a run ended with an error"
    return True


def torture(folder: Path, *, kills: int, copies: int, seed: int) -> Counter[str]:
    """Kill until `kills` processes have died; raises AssertionError with what is wrong."""
    rng = random.Random(seed)
    music, output = build(folder, copies)
    old = state(music)
    began = time.monotonic()
    assert in_child(apply_results, output, None)
    took = time.monotonic() - began
    new = state(music)
    assert in_child(undo_results, output, None)
    assert state(music) == old, "undo does not give back every byte"
    assert all(new[name] != old[name] for name in old), "a file was not tagged"
    counts: Counter[str] = Counter(files=len(old))
    acts = [(apply_results, new), (undo_results, old)]
    while counts["killed"] < kills:
        act, goal = acts[0]
        # Sometimes late, so that runs get far; the delay is random down to the microsecond.
        ended = in_child(act, output, rng.uniform(0, 1.2) * took)
        counts["killed"] += not ended
        now = state(music)
        assert now.keys() == old.keys(), f"files lost or appeared: {now.keys() ^ old.keys()}"
        for name, data in now.items():
            assert data in (old[name], new[name]), f"{name} is neither the old nor the new file ({len(data)} bytes)"
        counts["copies left by a kill"] += len(leftovers(music))
        if ended or rng.random() < 0.2:
            assert in_child(act, output, None)
            assert state(music) == goal, "the end differs from an uninterrupted run"
            assert not leftovers(music), f"left behind: {leftovers(music)}"
            counts["runs to the end"] += 1
            acts.reverse()
    assert in_child(acts[0][0], output, None)
    assert state(music) == acts[0][1]
    assert not leftovers(music)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--copies", type=int, default=12, help="files of each container")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to build the library  [default: the temporary one]"
    )
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        counts = torture(Path(folder), kills=arguments.kills, copies=arguments.copies, seed=arguments.seed)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
