"""`genrebeam doctor`: its options, and how the checks look. They are made in pipelines/jobs/doctor.py."""

from __future__ import annotations

import dataclasses
import json
import tempfile

import click

from genrebeam.pipelines.commands.options import model_option
from genrebeam.pipelines.engine.quiet import quiet_libraries


@click.command("doctor")
@model_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--debug", is_flag=True, help="Show what the libraries say.")
def command(model: str | None, as_json: bool, debug: bool) -> int:
    """Say what works on this machine, what does not, and what to do.

    The exit code is 0 where a local library can be tagged, and 1 where it cannot.
    """
    from genrebeam.pipelines.jobs.doctor import can_tag, checks

    with tempfile.TemporaryDirectory(prefix="genrebeam-") as folder, quiet_libraries(folder, debug=debug):
        found = list(checks(model))
    able = can_tag(found)
    if as_json:
        click.echo(json.dumps({"can_tag": able, "checks": [dataclasses.asdict(c) for c in found]}, indent=2))
        return 0 if able else 1
    for check in found:
        mark = "ok  " if check.works else "FAIL" if check.needed else "-   "
        click.echo(f"{mark} {check.name}: {check.found}")
        if check.advice:
            click.echo(f"     -> {check.advice}")
    click.echo("A local library can be tagged." if able else "Tagging cannot work: mend what says FAIL.")
    return 0 if able else 1
