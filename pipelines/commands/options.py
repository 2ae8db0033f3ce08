"""Options that several commands have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

JSON_VERSION = 1  # of docs/json.md; another one where a field changes its meaning or goes

# The names are those of model.bundle.SHIPPED, which is not imported for the sake of a quick --help.
model_option = click.option(
    "--model", metavar="MODEL", help="genres16, gtzan10, or a folder or URL.  [default: genres16]"
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


def echo_json(values: Mapping[str, Any]) -> None:
    """What a command with --json prints: one object on one line, which docs/json.md describes."""
    click.echo(json.dumps({"version": JSON_VERSION, **values}, ensure_ascii=False))


class _LocalFolder(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if "://" in str(value):
            self.fail(f"{value}: give a local folder", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _LocalFolder(path_type=Path, file_okay=False)
