"""Where the closing table of a command goes."""

from __future__ import annotations

import os
import sys

from rich.console import Console


class Screen(Console):
    """Standard output. Whoever closes it (`| head`) has seen enough: what was done is done, and the exit code says how
    it went. Rich would make it 1, which means that the engine failed."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in its buffer
