"""What the reader of a message can do next: commands that work in their shell, and a desktop to open pages on."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import webbrowser
from pathlib import Path


def shell_line(*arguments: str) -> str:
    """`genrebeam ARGUMENTS` as the reader can type it, however this process was started."""
    return " ".join([_program(), *map(shlex.quote, arguments)])


def _program() -> str:
    started, on_path = sys.argv[0], shutil.which("genrebeam")
    if os.path.basename(started) != "genrebeam":  # python -m genrebeam
        return f"{shlex.quote(sys.executable)} -m genrebeam"
    if on_path and os.path.realpath(on_path) == os.path.realpath(started):
        return "genrebeam"
    path, here = os.path.abspath(started), os.getcwd() + os.sep
    return shlex.quote(path.removeprefix(here))


def has_desktop() -> bool:
    """Whether a browser would open in a window and not in this terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_page(page: Path) -> None:
    """Show a page in the browser, where there is a desktop."""
    if has_desktop():
        webbrowser.open(page.absolute().as_uri())
