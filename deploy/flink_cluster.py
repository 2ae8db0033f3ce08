"""Tag on a standalone Flink cluster of two TaskManagers, kill one of them in the middle, and compare rows.

    python deploy/flink_cluster.py [--jar FILE] [--flink FOLDER]

The job server's jar comes from Maven unless given, Flink from PyPI (apache-flink-libraries) unless a distribution's
folder is. Exits with 0 when the rows equal the local engine's, with 1 when they do not, and with 4 when Java, Flink or
the jar cannot be had. It ends all processes that it started, the Python workers of the killed TaskManager among them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import smoke

sys.path[:0] = [str(smoke.ROOT), str(smoke.ROOT / "tests")]

import psutil  # noqa: E402
import synth  # noqa: E402

from genrebeam.pipelines.dataset.dataset import RESULTS_DIR, Dataset  # noqa: E402
from genrebeam.pipelines.dataset.ledger import newest_results  # noqa: E402

MISSING = 4
FLINK = "1.20.3"
TRACKS = 120
# What Flink needs of a Java from 17 on; its own start scripts say the same.
OPENED = (
    "lang net io nio lang.reflect text time util util.concurrent util.concurrent.atomic util.concurrent.locks".split()
)
JAVA = ["java", *(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in OPENED)]
JAVA += ["--add-opens=java.base/sun.nio.ch=ALL-UNNAMED", "--add-exports=java.base/sun.net.util=ALL-UNNAMED"]


def missing(what: str) -> NoReturn:
    print(f"flink-test: {what}", file=sys.stderr)
    sys.exit(MISSING)


def job_server(given: Path | None) -> Path:
    if given is not None:
        return given if given.is_file() else missing(f"{given}: no such jar")
    try:
        return smoke.flink_job_server()
    except SystemExit as error:
        missing(str(error))


def flink_jars(given: Path | None) -> Path:
    """The folder lib/ of a distribution, with bash-java-utils.jar in ../bin."""
    folder = given or smoke.CACHE / f"apache-flink-libraries-{FLINK}" / "deps"
    if given is None and not folder.is_dir():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(smoke.CACHE)]
        if subprocess.run([*command, f"apache-flink-libraries=={FLINK}"], stderr=subprocess.DEVNULL).returncode:
            missing(f"apache-flink-libraries {FLINK} cannot be had from PyPI; say FLINK_HOME=FOLDER if you have Flink")
        with tarfile.open(smoke.CACHE / f"apache-flink-libraries-{FLINK}.tar.gz") as archive:
            archive.extractall(smoke.CACHE, filter="data")
    if not list((folder / "lib").glob("flink-dist*.jar")):
        missing(f"{folder}: no lib/flink-dist*.jar in it, so this is no Flink")
    return folder / "lib"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Cluster:
    """A JobManager and TaskManagers of two slots each, so that one alone can go on."""

    def __init__(self, lib: Path, folder: Path) -> None:
        self._lib, self._folder, self.port = lib, folder, free_port()
        self._processes: list[psutil.Popen] = []
        restart = (smoke.ROOT / "deploy" / "flink" / "config.yaml").read_text().partition("restart-strategy")
        config = {
            "jobmanager.rpc.address": "localhost",
            "jobmanager.rpc.port": free_port(),
            "jobmanager.memory.process.size": "1g",
            "rest.port": self.port,
            "taskmanager.memory.process.size": "1g",
            "taskmanager.numberOfTaskSlots": 2,
            "heartbeat.timeout": 10_000,
            "heartbeat.interval": 2_000,
            "io.tmp.dirs": folder,
        }
        (folder / "conf").mkdir()
        text = "".join(f"{name}: {value}\n" for name, value in config.items()) + restart[1] + restart[2]
        (folder / "conf" / "config.yaml").write_text(text)
        utils = [*JAVA, "-cp", f"{lib.parent}/bin/bash-java-utils.jar:{lib}/*"]
        utils += ["org.apache.flink.runtime.util.bash.BashJavaUtils", "GET_TM_RESOURCE_PARAMS"]
        told = subprocess.run([*utils, "--configDir", folder / "conf"], capture_output=True, text=True, check=True)
        marked = [line.partition("BASH_JAVA_UTILS_EXEC_RESULT:") for line in told.stdout.splitlines()]
        jvm, dynamic = (line[2].split() for line in marked if line[1])
        self._start("org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint")
        self.task_managers = [
            self._start("org.apache.flink.runtime.taskexecutor.TaskManagerRunner", jvm, dynamic) for _ in range(2)
        ]

    def _start(self, main: str, jvm: list[str] | None = None, arguments: list[str] | None = None) -> psutil.Popen:
        command = [*JAVA, *(jvm or ["-Xmx512m"]), "-cp", f"{self._lib}/*", main, "--configDir", self._folder / "conf"]
        with (self._folder / "flink.log").open("a") as log:
            process = psutil.Popen([*map(str, command), *(arguments or [])], stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def there(self) -> int:
        """How many TaskManagers have registered."""
        try:
            with urllib.request.urlopen(f"http://localhost:{self.port}/overview", timeout=5) as answer:
                return int(json.load(answer)["taskmanagers"])
        except OSError:
            return 0

    def kill_a_task_manager(self) -> None:
        kill(self.task_managers[0])

    def stop(self) -> None:
        for process in self._processes:
            kill(process)


def kill(process: psutil.Process) -> None:
    """Kill a process with all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


@contextlib.contextmanager
def cluster(lib: Path) -> Iterator[tuple[Cluster, Path]]:
    with tempfile.TemporaryDirectory(prefix="genrebeam-flink-") as scratch:
        folder = Path(scratch)
        made = Cluster(lib, folder)
        try:
            wait_until(lambda: made.there() == 2, 300, "the TaskManagers do not come up")
            yield made, folder
        except BaseException:
            shutil.copyfile(folder / "flink.log", smoke.CACHE / "flink.log")
            print(f"flink-test: Flink's log -> {smoke.CACHE}/flink.log", file=sys.stderr)
            raise
        finally:
            made.stop()


def wait_until(holds: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"flink-test: {otherwise} within {timeout_s:g} s")
        time.sleep(0.2)


def worker_script(folder: Path) -> Path:
    script = folder / "worker.sh"
    script.write_text(
        f'#!/bin/sh\nexport PATH="{Path(sys.executable).parent}:$PATH" PYTHONPATH="{smoke.ROOT}"\n'
        f'export RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1\nexec "{smoke.go_program("python/container")}" "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def rows(output: Path) -> list[dict]:
    return newest_results(output).drop_columns(smoke.PER_RUN).to_pylist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jar", type=Path, help="Flink job server jar, instead of one from Maven")
    parser.add_argument("--flink", type=Path, help="folder of a Flink distribution, instead of PyPI's")
    parser.add_argument("--only-cluster", action="store_true", help="start the cluster, kill a TaskManager, and stop")
    arguments = parser.parse_args()
    smoke.CACHE.mkdir(exist_ok=True)
    if not shutil.which("java"):
        missing("no Java here, and Flink needs one (11 or 17)")
    if not (arguments.only_cluster or shutil.which("go")):
        missing("no Go here, and Beam's boot program has to be built with it")
    jar = None if arguments.only_cluster else job_server(arguments.jar)
    with cluster(flink_jars(arguments.flink)) as (flink, folder):
        if jar is None:
            flink.kill_a_task_manager()
            wait_until(lambda: flink.there() == 1, 60, "a killed TaskManager is not missed")
            print("flink-test: two TaskManagers came up, one was killed and missed; nothing was tagged")
            return
        library = folder / "library"
        for seed in range(TRACKS):
            synth.write(library / f"{seed:03d}.wav", synth.music(8.0, seed=seed))
        command = [sys.executable, "-m", "genrebeam", "tag", str(library), "--quiet", "--write-every", "1", "--output"]
        subprocess.run([*command, str(folder / "here")], cwd=smoke.ROOT, check=True)
        there = folder / "there"
        environment = json.dumps({"command": str(worker_script(folder))})
        flags = ["--runner", "FlinkRunner", "--flink_master", f"localhost:{flink.port}", "--shared-filesystem"]
        flags += ["--flink_job_server_jar", str(jar), "--parallelism", "2", "--environment_cache_millis", "120000"]
        flags += ["--environment_type", "PROCESS", "--environment_config", environment]
        driver = psutil.Popen([*command, str(there), *flags], cwd=smoke.ROOT, env=os.environ)
        try:
            begun = lambda: driver.poll() is not None or bool(Dataset.at(there).files(RESULTS_DIR))  # noqa: E731
            wait_until(begun, 900, "no row is written")
            flink.kill_a_task_manager()
            before = len(Dataset.at(there).rows(RESULTS_DIR))
            code = driver.wait(timeout=1800)
        finally:
            kill(driver)
        if code:
            sys.exit(f"flink-test: the run left with code {code} after a TaskManager was killed")
        if rows(there) != rows(folder / "here"):
            sys.exit("flink-test: rows differ from the local engine's")
        twice = len(Dataset.at(there).rows(RESULTS_DIR)) - TRACKS
        print(f"flink-test: a TaskManager killed after {before} rows; {TRACKS} rows equal, {twice} made again")


if __name__ == "__main__":
    main()
