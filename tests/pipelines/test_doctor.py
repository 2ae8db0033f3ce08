"""The doctor says what works; only what tagging cannot do without makes it fail; nothing makes it raise."""

import builtins
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from genrebeam.pipelines.commands.doctor import command
from genrebeam.pipelines.jobs import doctor


def by_name(found):
    return {check.name: check for check in found}


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine with no programs and nothing of the user's in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_aws_account", lambda: None)
    monkeypatch.setattr(doctor, "_google_account", lambda: None)
    return tmp_path


def test_this_machine_can_tag_although_much_is_absent(bare):
    found = list(doctor.checks())
    assert doctor.can_tag(found)
    checks = by_name(found)
    assert checks["hearing a tone"].works and "3 chunks" in checks["hearing a tone"].found
    assert "MP3" in checks["decoders"].found
    for absent in ("s3://", "gs://", "Java", "Flink job server", "Docker"):
        assert not checks[absent].works and not checks[absent].needed
    assert all(check.works or check.advice for check in found)
    assert all("\n" not in check.found for check in found)


@pytest.mark.parametrize(
    ("system", "works", "needed"), [("Linux", True, False), ("Darwin", False, False), ("Windows", False, True)]
)
def test_another_system_is_named_and_only_windows_makes_tagging_impossible(monkeypatch, system, works, needed):
    monkeypatch.setattr(doctor.platform, "system", lambda: system)
    check = doctor._system()
    assert (check.works, check.needed, bool(check.advice)) == (works, needed, not works)


def test_no_bundle_is_a_failure_for_people_and_programs(bare):
    missing = str(bare / "none")
    people = CliRunner().invoke(command, ["--model", missing], standalone_mode=False)
    assert people.return_value == 1
    assert f"FAIL model: {missing}: no such model bundle" in people.output
    programs = CliRunner().invoke(command, ["--model", missing, "--json"], standalone_mode=False)
    assert programs.return_value == 1
    said = json.loads(programs.stdout)
    assert said["can_tag"] is False
    assert [check["name"] for check in said["checks"] if check["needed"] and not check["works"]] == ["model"]


def test_a_bundle_whose_network_is_damaged_fails_by_being_used(bare):
    import shutil

    from genrebeam.model.bundle import DEFAULT, MODEL

    shutil.copytree(DEFAULT, bare / "bundle")
    (bare / "bundle" / MODEL).write_bytes(b"no network")
    checks = by_name(doctor._model(str(bare / "bundle")))
    assert checks["model"].works
    assert checks["hearing a tone"].needed and not checks["hearing a tone"].works


def test_a_package_that_is_not_there_is_said(monkeypatch):
    real = builtins.__import__

    def without_av(name, *rest, **named):
        if name == "av":
            raise ImportError("libav is missing")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_av)
    check = doctor._decoders()
    assert check.needed and not check.works and "libav is missing" in check.found


def test_an_extra_that_is_absent_or_broken_is_said(monkeypatch):
    assert doctor._extra("pictures", "json", "app", "show needs it").works
    absent = doctor._extra("application", "no_such_package", "app", "app needs it")
    assert not absent.works and not absent.needed and "'.[app]'" in absent.advice

    def broken(name):
        raise OSError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    assert "libGL" in doctor._extra("pictures", "matplotlib", "app", "show needs it").found


def test_a_program_that_hangs_or_fails_is_said(monkeypatch):
    monkeypatch.setattr(doctor, "_PATIENCE_S", 0.2)
    assert "timed out" in doctor._program("a", ["sleep", "9"], "wait").found
    check = doctor._program("b", ["sh", "-c", "echo no daemon >&2; exit 1"], "start it")
    assert (check.works, check.found, check.advice) == (False, "no daemon", "start it")


@pytest.mark.parametrize("account", [lambda: None, lambda: 1 / 0])
def test_credentials_that_are_absent_or_broken_are_said(account):
    check = doctor._store("s3://", "json", "aws", account)
    assert not check.works and not check.needed and check.advice


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    check = doctor._disk("disk", tmp_path)
    assert not check.works and "make room" in check.advice


def test_nobody_waits_for_tensorflow_where_there_is_no_driver():
    code = (
        "import sys; from genrebeam.pipelines.jobs import doctor; doctor._GPU_DEVICES = (); "
        "doctor.shutil.which = lambda name: None; check = doctor._gpu(); "
        "print(check.found, 'tensorflow' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "none; the processors do the work False\n"
