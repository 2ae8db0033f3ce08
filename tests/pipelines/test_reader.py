"""Commands that messages propose, as a reader can type them, and the desktop that pages are opened on."""

import subprocess
import sys

import pytest

from genrebeam.pipelines.commands import reader


@pytest.fixture
def program(tmp_path, monkeypatch):
    file = tmp_path / "my env" / "bin" / "genrebeam"
    file.parent.mkdir(parents=True)
    file.write_text('#!/bin/sh\necho "$@"\n')
    file.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(file)])
    return file


def test_a_program_on_the_path_is_called_by_its_name(program, monkeypatch):
    monkeypatch.setenv("PATH", str(program.parent))
    assert reader.shell_line("app", "out") == "genrebeam app out"


def test_another_one_on_the_path_is_not_meant(program, tmp_path, monkeypatch):
    other = tmp_path / "genrebeam"
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert reader.shell_line("app", "out") == "'my env/bin/genrebeam' app out"


def test_names_with_blanks_and_quotes_arrive_whole(program, tmp_path):
    run = subprocess.run(
        reader.shell_line("app", "it's mine"), shell=True, cwd=tmp_path.parent, capture_output=True, text=True
    )
    assert run.stdout == "app it's mine\n"


@pytest.mark.parametrize(("display", "opened"), [(":0", True), ("", False)])
def test_a_page_is_opened_only_on_a_desktop(tmp_path, monkeypatch, display, opened):
    seen = []
    monkeypatch.setattr(reader.webbrowser, "open", seen.append)
    monkeypatch.setattr(reader.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    reader.open_page(tmp_path / "page one.html")
    assert seen == ([(tmp_path / "page one.html").as_uri()] if opened else [])
