"""`genrebeam app` before its server runs: what cannot work is one line."""

from __future__ import annotations

import importlib.util
import socket

import pytest

from genrebeam.app import command as commands
from genrebeam.pipelines.cli import main

pytest.importorskip("fastapi", reason="SKIPPED: the application, for want of FastAPI (pip install 'genrebeam[app]')")


@pytest.fixture
def one_line(capsys, monkeypatch):
    def refused(*arguments: object) -> str:
        monkeypatch.setattr(commands, "_run", lambda *args, **options: pytest.fail("the server was started"))
        with pytest.raises(SystemExit) as left:
            main(["app", *map(str, arguments)])
        assert left.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return refused


def test_a_port_in_use_is_one_line(one_line):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "try another --port" in one_line("--port", taken.getsockname()[1])


def test_an_address_that_is_not_ours_is_one_line(one_line):
    assert "cannot listen on 192.0.2.1" in one_line("--host", "192.0.2.1")


def test_folders_without_results_are_one_line(one_line, tmp_path):
    assert "no results here" in one_line(tmp_path, "--port", free_port())
    assert "no results here" in one_line(tmp_path / "absent", "--port", free_port())


def test_a_bundle_that_is_none_is_one_line(one_line, tmp_path):
    assert "no such model bundle" in one_line("--model", tmp_path / "absent", "--port", free_port())


def test_without_fastapi_there_is_advice(one_line, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "fastapi" else find(name))
    assert "pip install '.[app]'" in one_line()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
