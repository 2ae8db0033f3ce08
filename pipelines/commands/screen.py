"""Where the closing table of a command goes."""

from __future__ import annotations

import os
import sys

from rich.console import Console


class Screen(Console):
    """Standard output. A reader that closes it early (`| head`) does not change the exit code, because the work is
    done by then. Rich would make it 1, which means that the engine failed."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in its buffer
