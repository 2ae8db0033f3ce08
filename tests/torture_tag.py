"""kill -9 of the driver or of a worker while a library is tagged: `make torture-tag`, or with [--kills 50] [--seed 1].

Each time the same command is run again. Whenever a run comes to its end, every track must have exactly one current row,
equal to that of an undisturbed run but for times, and no process may be left behind. Prints how
many rows were written twice.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import psutil  # noqa: E402
import synth  # noqa: E402
from processes import workers_of  # noqa: E402

from genrebeam.pipelines.dataset.dataset import REJECTS_DIR, RESULTS_DIR, Dataset  # noqa: E402
from genrebeam.pipelines.dataset.ledger import newest_results  # noqa: E402

PER_RUN = ["run_id", "processed_at"]
TRACKS = 120


def command(library: Path, output: Path) -> list[str]:
    arguments = ["tag", library, "--output", output, "--workers", "2", "--write-every", "1", "--quiet"]
    return [sys.executable, "-m", "genrebeam", *map(str, arguments)]


def disturb(library: Path, output: Path, chance: random.Random) -> tuple[str, bool]:
    """One run that is killed somewhere; who was killed, and whether the run came to its end all the same."""
    driver = psutil.Popen(command(library, output), cwd=ROOT)
    whom = chance.choice(["driver", "worker"])
    deadline = time.monotonic() + chance.uniform(1.0, 9.0)
    while time.monotonic() < deadline and driver.poll() is None:
        time.sleep(0.05)
    if driver.poll() is not None:
        check(driver.returncode == 0, f"an undisturbed run left with {driver.returncode}")
        return "nobody", True
    family = driver.children(recursive=True)
    if whom == "worker":
        victims = workers_of(driver)
        with contextlib.suppress(psutil.NoSuchProcess):
            if victims:
                chance.choice(victims).kill()
        check(driver.wait(timeout=300) == 0, f"a run whose worker was killed left with {driver.returncode}")
    else:
        driver.kill()
        driver.wait()
    gone, left = psutil.wait_procs(family, timeout=60)
    for process in left:
        process.kill()
    check(not left, f"{len(left)} of {len(gone) + len(left)} processes were left behind by a killed {whom}")
    return whom, whom == "worker"


def rows(output: Path) -> dict[str, dict]:
    return {row["track_id"]: row for row in newest_results(output).drop_columns(PER_RUN).to_pylist()}


def check(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"torture: {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch, "library")
        for seed in range(TRACKS):
            synth.write(library / f"{seed:03d}.wav", synth.music(8.0, seed=seed))
        undisturbed = Path(scratch, "undisturbed")
        subprocess.run(command(library, undisturbed), cwd=ROOT, check=True)
        wanted = rows(undisturbed)
        check(len(wanted) == TRACKS, f"{len(wanted)} rows of {TRACKS} tracks without any kill")
        kills = {"driver": 0, "worker": 0, "nobody": 0}
        number, ends, heard = 0, 0, 0
        while kills["driver"] + kills["worker"] < arguments.kills:
            output = Path(scratch, f"out-{number}")
            whom, ended = disturb(library, output, chance)
            kills[whom] += 1
            if ended:
                check(rows(output) == wanted, f"{output.name}: rows differ from those of an undisturbed run")
                dataset = Dataset.at(output)
                check(len(dataset.rows(REJECTS_DIR)) == 0, f"{output.name}: tracks were rejected")
                number, ends, heard = number + 1, ends + 1, heard + len(dataset.rows(RESULTS_DIR))
                print(f"{kills}: {ends} runs ended, {heard - ends * TRACKS} of {heard} rows there twice", flush=True)
    print(f"torture: {kills['driver']} drivers and {kills['worker']} workers killed, nothing lost")


if __name__ == "__main__":
    main()
