"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

# The names are those of model.bundle.SHIPPED, which is not imported for the sake of a quick --help.
model_option = click.option(
    "--model", metavar="MODEL", help="genres16, gtzan10, or a folder or URL.  [default: genres16]"
)


class _LocalFolder(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if "://" in str(value):
            self.fail(f"{value}: give a local folder", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _LocalFolder(path_type=Path, file_okay=False)
