"""Options that several commands have."""

from __future__ import annotations

import click

# The names are those of model.bundle.SHIPPED, which is not imported for the sake of a quick --help.
model_option = click.option(
    "--model", metavar="MODEL", help="gtzan10, genres16, or a folder or URL.  [default: gtzan10]"
)
