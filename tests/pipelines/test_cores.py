"""How many workers there are where a container has a quota of processor time."""

import math

import pytest

from genrebeam.pipelines.engine import runner


def container(tmp_path, groups, *mounts):
    """The folder of a process; mounts are (root, folder, kind, options)."""
    lines = [f"31 23 0:28 {root} {tmp_path / at} rw - {kind} cgroup {options}" for root, at, kind, options in mounts]
    (tmp_path / "cgroup").write_text("".join(f"{line}\n" for line in groups))
    (tmp_path / "mountinfo").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def put(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


V2 = ("/", "fs", "cgroup2", "rw")
V1 = ("/", "fs/cpu", "cgroup", "rw,cpu,cpuacct")


def test_version_2_own_group_and_those_around_it(tmp_path):
    proc = container(tmp_path, ["0::/a/b"], V2)
    put(tmp_path / "fs" / "a" / "b", cpu__max="max 100000")
    assert runner.cpu_quota(proc) == math.inf
    put(tmp_path / "fs" / "a", cpu__max="150000 100000")
    assert runner.cpu_quota(proc) == 1.5
    put(tmp_path / "fs" / "a" / "b", cpu__max="50000 100000")
    assert runner.cpu_quota(proc) == 0.5


def test_version_1(tmp_path):
    proc = container(tmp_path, ["3:memory:/x", "2:cpu,cpuacct:/a", "0::/"], V1)
    put(tmp_path / "fs" / "cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100_000)
    assert runner.cpu_quota(proc) == math.inf
    put(tmp_path / "fs" / "cpu" / "a", cpu__cfs_quota_us=200_000, cpu__cfs_period_us=100_000)
    assert runner.cpu_quota(proc) == 2


@pytest.mark.parametrize("root", ["/", "/docker/abc"])
def test_a_container_that_sees_its_group_as_the_top(tmp_path, root):
    proc = container(tmp_path, ["1:cpu:/docker/abc"], (root, "fs/cpu", "cgroup", "rw,cpu"))
    put(tmp_path / "fs" / "cpu", cpu__cfs_quota_us=300_000, cpu__cfs_period_us=100_000)
    assert runner.cpu_quota(proc) == 3


def test_without_control_groups(tmp_path):
    assert runner.cpu_quota(tmp_path / "nothing") == math.inf


@pytest.mark.parametrize(("quota", "cores"), [(0.2, 1), (1.5, 2), (2.0, 2), (math.inf, 8)])
def test_part_of_a_core_is_a_worker(monkeypatch, quota, cores):
    monkeypatch.setattr(runner, "cpu_quota", lambda: quota)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert runner.usable_cores() == cores
