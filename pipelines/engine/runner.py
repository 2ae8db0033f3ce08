"""The Beam runner, its flags and its workers. What has to be known about the direct runner is in this module."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import resource
import shutil
import socket
import sys
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genrebeam.features.errors import UsageError, how_to_install
from genrebeam.features.ranges import check_range
from genrebeam.pipelines.engine.forks import Forks
from genrebeam.pipelines.storage.places import local_path

if TYPE_CHECKING:
    import apache_beam as beam

# Named in full: "DirectRunner" would first try to download another engine (Prism), and which of the two ran
# would depend on details of the graph.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"

WORKER_TIMEOUT_S = 600.0
_ADDRESSES = ("job_endpoint", "flink_master")  # flags that name a server: HOST:PORT, unless Beam has it within itself
_WITHIN_BEAM = ("embed", "[local]", "[auto]", "[collection]")
_FILES = ("flink_job_server_jar", "spark_job_server_jar", "prism_location")  # flags that name a file, or its URL
# Without these Beam would look into gcloud's settings for a region, and make a bucket that nobody has asked for.
_DATAFLOW_NEEDS = {"project": "PROJECT", "region": "REGION", "temp_location": "gs://BUCKET/tmp"}
_ANSWER_S = 10.0  # that a server may take
_RUNNERS_HERE = {"directrunner", "fnapirunner", "prismrunner", "interactiverunner"}


@dataclasses.dataclass(frozen=True)
class Engine:
    """A runner and its flags.

    Attributes:
        runner: None for this machine, else the name of any Beam runner.
        workers: processes on this machine.
        flags: passed on to Beam as they are.
        shared_filesystem: workers on other machines mount this machine's folders under the same paths.
        worker_timeout_s: how long a first worker of the runner may take to begin.

    Raises:
        UsageError: an option is out of range, naming it.
    """

    runner: str | None = None
    workers: int = 1
    flags: tuple[str, ...] = ()
    shared_filesystem: bool = False
    worker_timeout_s: float = WORKER_TIMEOUT_S

    def __post_init__(self) -> None:
        check_range("--workers", self.workers, low=1)
        check_range("--worker-timeout", self.worker_timeout_s, low=1, high=86_400)

    @property
    def is_local(self) -> bool:
        """Whether it is Beam's local runner, whose worker processes are this machine's to watch."""
        return self.runner is None or self.runner.rpartition(".")[2] == LOCAL_RUNNER.rpartition(".")[2]

    @property
    def workers_are_here(self) -> bool:
        """Whether workers run on this machine and can use its paths."""
        if self.runner is None:
            return True
        environment = self._flag("environment_type")
        if environment is None:  # what Beam takes where nothing is said
            embedded = self._flag("flink_master") in ("[local]", "[auto]")
            return embedded or self.runner.rpartition(".")[2].lower() in _RUNNERS_HERE
        return environment.upper() == "LOOPBACK"

    def forks(self, *imports: str) -> Forks | None:
        """The local workers to fork once these modules are imported, for `run_apart`; None where none are forked.

        Imported libraries have started no thread that a fork would miss, on Linux; on macOS frameworks may have.

        Raises:
            UsageError: the value of Beam's flag for their number is invalid.
        """
        named = self._flag("direct_running_mode") == "multi_processing"
        starts_workers = self.is_local and (named or (self.runner is None and self.workers > 1))
        if not starts_workers or sys.platform != "linux":
            return None
        named_workers = self._flag("direct_num_workers") or str(self.workers)
        if not named_workers.isdecimal():
            raise UsageError(f"--direct_num_workers {named_workers}: write a number, or leave it to --workers")
        return Forks(int(named_workers) or usable_cores(), imports)

    @property
    def writes_template(self) -> str | None:
        """Where the runner writes a template of the job instead of running it."""
        return self._flag("template_location")

    def check(self, *, may_be_template: bool = False) -> None:
        """Refuse before any work what a launch would fail for. A failed launch is repeated, and its message is less
        clear.

        Args:
            may_be_template: False for a job that ends in the driver.

        Raises:
            UsageError: flags, packages, files or servers that the runner needs, and what is wrong with them.
        """
        if self.writes_template and not may_be_template:
            raise UsageError("--template_location: only `tag` can be a template; leave it out and the job runs now")
        if self.is_local or self.runner is None:
            _allow_open_files(32 + 16 * self.workers)
            return
        kind = self.runner.rpartition(".")[2].lower()
        for name in _ADDRESSES:
            _check_answers(name, self._flag(name))
        for name in _FILES:
            file = self._flag(name)
            if file and "://" not in file and not os.path.isfile(file):
                raise UsageError(f"--{name} {file}: no such file")
        java = os.path.join(os.environ["JAVA_HOME"], "bin", "java") if os.environ.get("JAVA_HOME") else "java"
        if kind.startswith(("flink", "spark")) and not self._flag("job_endpoint") and not shutil.which(java):
            raise UsageError(
                f"--runner {self.runner} starts a job server in Java, and {java} cannot be run: install Java (11 or "
                "17), correct JAVA_HOME, or name a job server that runs elsewhere with --job_endpoint HOST:PORT"
            )
        if kind.startswith("dataflow"):
            missing = [f"--{name} {value}" for name, value in _DATAFLOW_NEEDS.items() if not self._flag(name)]
            if missing:
                raise UsageError(f"--runner {self.runner} needs {', '.join(missing)}: add what is missing")
            if not (temporary := self._flag("temp_location") or "").startswith("gs://"):
                raise UsageError(f"--temp_location {temporary}: Dataflow reaches gs:// only; write gs://BUCKET/tmp")
            try:
                import google.cloud.dataflow  # noqa: F401  # Beam does without until the job is to be sent
            except ImportError as error:
                raise UsageError(f"--runner {self.runner} needs Google's packages: {how_to_install('gcp')}") from error
        self._check_beam()

    def _check_name(self) -> None:
        from apache_beam.runners.runner import create_runner

        try:
            create_runner(self.runner or LOCAL_RUNNER)
        except ValueError as error:
            raise UsageError(f"--runner {self.runner}: {error}") from error
        except ImportError:
            pass  # a package is missing, which `check` has more to say of

    def _check_beam(self) -> None:
        """Let Beam make a pipeline of the flags, which it looks at in doing so, and fetch what it would start."""
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                _fetch_job_server(beam.Pipeline(options=PipelineOptions(self.beam_flags())))
        except SystemExit:  # argparse, which has said why
            reason = said.getvalue().rpartition("error: ")[2]
        except Exception as error:
            reason = str(error)
        else:
            return
        raise UsageError(f"--runner {self.runner}: {' '.join(reason.split())}")

    def check_places(self, places: Iterable[tuple[str, str]]) -> None:
        """Refuse what workers on other machines cannot reach.

        Args:
            places: what each is, such as the option that named it, and its path or URL.

        Raises:
            UsageError: one of them is a path of this machine, and the workers are elsewhere; or Beam has no such
                runner.
        """
        if self.workers_are_here or self.shared_filesystem:
            return
        self._check_name()
        for what, place in places:
            if local_path(place) is not None:
                raise UsageError(
                    f"{what} {place}: the workers of {self.runner} cannot see this machine's files; give a gs:// or "
                    "s3:// address, or say --shared-filesystem if all workers mount it under this path"
                )

    def _flag(self, name: str) -> str | None:
        """The value that Beam's flags give to an option."""
        for number, flag in enumerate(self.flags):
            key, has_value, value = flag.partition("=")
            if key == f"--{name}":
                return value if has_value else next(iter(self.flags[number + 1 : number + 2]), None)
        return None

    def beam_flags(self) -> list[str]:
        """Command line flags for Beam's PipelineOptions."""
        if self.runner is not None:
            return [f"--runner={self.runner}", *self.flags]
        flags = [f"--runner={LOCAL_RUNNER}"]
        if self.workers > 1:
            flags += [f"--direct_num_workers={self.workers}", "--direct_running_mode=multi_processing"]
        return [*flags, *self.flags]  # the user's own Beam flags come last and win


def _allow_open_files(count: int) -> None:
    """Beam's local runner and its workers talk through sockets, and hang where no more files can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise UsageError(f"only {hard} files may be open at a time here, and {count} are needed: ulimit -n 1024")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _fetch_job_server(pipeline: beam.Pipeline) -> None:
    """Fetch the program that a runner starts where no --job_endpoint is named; raises whatever Beam says against it."""
    from apache_beam.options.pipeline_options import JobServerOptions, PortableOptions
    from apache_beam.runners.portability.job_server import SubprocessJobServer
    from apache_beam.runners.portability.portable_runner import PortableRunner

    if not isinstance(pipeline.runner, PortableRunner) or pipeline.options.view_as(PortableOptions).job_endpoint:
        return
    pipeline.options.view_as(JobServerOptions).artifacts_dir = os.devnull  # else a folder is made
    server = pipeline.runner.default_job_server(pipeline.options)
    server = getattr(server, "_job_server", server)  # what ends it with the driver
    if isinstance(server, SubprocessJobServer):
        server.subprocess_cmd_and_endpoint()


def _check_answers(name: str, address: str | None) -> None:
    if address is None or address in _WITHIN_BEAM:
        return
    url = urllib.parse.urlsplit(address if "://" in address else f"//{address}")
    try:
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        socket.create_connection((url.hostname or "", port), timeout=_ANSWER_S).close()
    except (ValueError, KeyError) as error:
        raise UsageError(f"--{name} {address}: invalid address; write HOST:PORT") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"--{name} {address}: nobody answers there ({reason}); start it, or correct HOST:PORT"
        ) from error


def usable_cores() -> int:
    """Cores this process may use, which in a container is fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota())))


def cpu_quota(proc: Path = Path("/proc/self")) -> float:
    """The least quota of processor time, in cores, of the control groups of a process; infinite where there is none.

    Of version 1 and 2, as cgroups(7) describes them: a group's own quota and those of the groups around it hold.

    Args:
        proc: the folder of the process, in which `cgroup` names its groups and `mountinfo` where they can be seen.
    """
    try:
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        mounts = [line.split(" ") for line in (proc / "mountinfo").read_text().splitlines()]
    except OSError:
        return math.inf  # no Linux
    group_of = {name: path for _, controllers, path in groups for name in controllers.split(",")}
    quotas = [math.inf]
    for mount in mounts:
        kind, options = mount[mount.index("-") + 1], mount[-1].split(",")
        name = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if name not in group_of or (name and name not in options):
            continue
        top = Path(mount[4])
        # A container may see its own group as the root of the mount, by whatever path it has outside.
        group = top / os.path.relpath(group_of[name], mount[3])
        group = group if group.is_dir() and ".." not in group.parts else top
        quotas += [_quota_of(folder) for folder in (group, *group.parents) if folder.is_relative_to(top)]
    return min(quotas)


def _quota_of(group: Path) -> float:
    """The quota of one control group, in cores; infinite where it has none."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((group / name).read_text() for name in names).split()
            if quota not in ("max", "-1"):
                return int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            pass  # not of this version, or the root, which has no quota
    return math.inf


def split_beam_flags(arguments: Sequence[str], own_options: frozenset[str]) -> tuple[list[str], list[str]]:
    """Part a command line into our arguments and Beam's flags with their values.

    A flag is Beam's when it is none of ours and some PipelineOptions class of Beam declares it; everything
    else stays with us, so that a misspelt option is reported and not swallowed. What follows a lone `--`
    goes to Beam unseen (for options that only the runner's job server knows).
    """
    arguments, unseen = list(arguments), []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, unseen = arguments[:cut], arguments[cut + 1 :]
    if not any(a.startswith("--") and a.split("=")[0] not in own_options for a in arguments):
        return arguments, unseen
    known = _beam_options()
    ours: list[str] = []
    beams: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, has_value, _ = argument.partition("=")
        if not argument.startswith("--") or name in own_options or name not in known:
            ours.append(argument)
            continue
        beams.append(argument)
        if known[name] and not has_value:
            beams.extend(value for value in [next(rest, None)] if value is not None)
    return ours, beams + unseen


def _beam_options() -> dict[str, bool]:
    """Every option Beam declares, and whether it takes a value."""
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

    parser = _BeamArgumentParser(add_help=False, conflict_handler="resolve")
    for options in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in vars(options):
            options._add_argparse_args(parser)
    # Flink's job server declares the rest of its options only when asked over the wire.
    taking_value = {"--parallelism": True, "--max_parallelism": True}
    for action in parser._actions:
        for name in action.option_strings:
            taking_value[name] = action.nargs != 0
    return taking_value
