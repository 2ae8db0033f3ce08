"""Tag the demo library on this machine and on another Beam engine, and compare the rows.

    python deploy/smoke.py flink [--jar FILE]     embedded Flink; the job server jar comes from Maven
    python deploy/smoke.py prism [--prism FILE]   Beam's Prism; the binary is built with Go
    python deploy/smoke.py image [--prism FILE]   Prism, and the worker of deploy/Dockerfile in a clean folder (4 GB)

None needs anything else running. Leaves with 0 when the rows are equal.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
LIBRARY = ROOT / ".demo" / "library"
FLINK_VERSION = "1.20"
# What differs between any two runs.
PER_RUN = ["run_id", "processed_at"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=["flink", "prism", "image"])
    parser.add_argument("--jar", type=Path, help="Flink job server jar, instead of one from Maven")
    parser.add_argument("--prism", type=Path, help="Prism binary, instead of one built with Go")
    arguments = parser.parse_args()
    if arguments.engine == "flink":
        flags = flink_flags(arguments.jar or flink_job_server())
    else:
        prism = arguments.prism or go_program("go/cmd/prism")
        flags = prism_flags(prism, *(["LOOPBACK"] if arguments.engine == "prism" else image_worker()))
    if not LIBRARY.is_dir():
        run([sys.executable, ROOT / "tests" / "synth.py", LIBRARY])
    here = tag("direct", [])
    there = tag(arguments.engine, flags)
    if here != there:
        different = sorted(i for i in here.keys() | there.keys() if here.get(i) != there.get(i))
        sys.exit(f"{arguments.engine}: {len(different)} of {len(here)} rows differ: {', '.join(different)}")
    print(f"{arguments.engine}: {len(there)} rows, equal to the direct runner's")


def tag(name: str, flags: list[str]) -> dict[str, dict]:
    """Tag the demo library anew; the rows of results and rejects by track_id."""
    output = ROOT / ".demo" / f"smoke-{name}"
    run(["rm", "-rf", output])
    run([sys.executable, "-m", "genrebeam", "tag", LIBRARY, "--output", output, "--quiet", *flags])
    rows = {}
    for kind in ("results", "rejects"):
        for row in pq.read_table(output / kind).drop_columns(PER_RUN).to_pylist():
            rows[row["track_id"]] = row
    return rows


def flink_flags(jar: Path) -> list[str]:
    return [
        *["--runner", "FlinkRunner", "--flink_master", "[local]", "--flink_job_server_jar", str(jar)],
        *["--environment_type", "LOOPBACK", "--parallelism", "2"],
    ]


def prism_flags(binary: Path, environment: str, command: Path | None = None) -> list[str]:
    flags = ["--runner", "PrismRunner", "--prism_location", str(binary), "--environment_type", environment]
    if command:
        flags += ["--environment_config", json.dumps({"command": str(command)}), "--shared-filesystem"]
    return flags


def image_worker() -> tuple[str, Path]:
    """The image without a container engine: its files, packages and variables, and Beam's boot program as its start."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    image, boot = CACHE / "image", go_program("python/container")
    run([sys.executable, "-m", "venv", image])
    with tempfile.TemporaryDirectory() as context:
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.M):
            run(["cp", "-r", *line.split(), context])
        extras = re.search(r"^ARG EXTRAS=(.*)", dockerfile, re.M)[1]
        pip = [image / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "--constraint", ROOT / "constraints.txt", f"{context}[{extras}]"])
    script = image / "worker.sh"
    variables = re.search(r"^ENV (.*)", dockerfile, re.M)[1]
    start = f'env -i HOME="{image}" PATH="{image}/bin:/usr/bin:/bin" {variables} "{boot}"'
    # Prism 2.77 gives the worker's id in quotes, for a shell to take off.
    script.write_text(f"#!/bin/sh\ncd '{image}' && eval 'exec {start}' \"$@\"\n")
    script.chmod(0o755)
    return "PROCESS", script


def flink_job_server() -> Path:
    """The job server of the installed Beam, through Maven (which knows of mirrors and proxies; Beam does not)."""
    version = metadata.version("apache-beam")
    name = f"beam-runners-flink-{FLINK_VERSION}-job-server"
    jar = CACHE / f"{name}-{version}.jar"
    if not jar.exists():
        artifact = f"org.apache.beam:{name}:{version}"
        copy = ["mvn", "-q", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={CACHE}"]
        if not shutil.which("mvn") or subprocess.run(copy, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"Maven cannot fetch {artifact}; say FLINK_JOB_SERVER_JAR=FILE if you have it")
    return jar


def go_program(package: str) -> Path:
    """A program of the installed Beam's version, built from the Go module proxy."""
    program = CACHE / Path(package).name
    if not program.exists():
        module = f"github.com/apache/beam/sdks/v2/{package}@v{metadata.version('apache-beam')}"
        run(["env", f"GOBIN={CACHE}", "go", "install", module])
    return program


def run(command: list) -> None:
    try:
        subprocess.run([str(part) for part in command], cwd=ROOT, check=True)
    except FileNotFoundError:
        sys.exit(f"{command[0]}: not installed, and this smoke test needs it")
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed with code {error.returncode}: {' '.join(map(str, command))}")


if __name__ == "__main__":
    main()
