"""`genrebeam tag`: its options, what it shows, and its exit code. The work is in pipelines/jobs/tag.py."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from genrebeam.features.errors import UsageError
from genrebeam.features.limits import ExtractLimits
from genrebeam.model.voting import METHODS
from genrebeam.pipelines.cli import EXIT_OK, EXIT_TOO_MANY_REJECTS
from genrebeam.pipelines.commands.apply import apply_options
from genrebeam.pipelines.commands.beam import BeamCommand, engine_options
from genrebeam.pipelines.commands.options import echo_json, json_option, model_option
from genrebeam.pipelines.commands.reader import shell_line
from genrebeam.pipelines.commands.screen import Screen
from genrebeam.pipelines.dataset.export import FORMATS, OLD_FORMATS, export
from genrebeam.pipelines.engine.quiet import quiet_libraries
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.jobs import apply as tags
from genrebeam.pipelines.jobs.tag import tag
from genrebeam.pipelines.jobs.tag_options import TagOptions
from genrebeam.pipelines.jobs.tag_report import TagReport
from genrebeam.pipelines.storage.places import local_path
from genrebeam.pipelines.tags.policy import spelled


@click.command("tag", cls=BeamCommand)
@click.argument("library", nargs=-1)
@click.option("--output", required=True, metavar="DIR", help="Folder or URL for results, rejects and run reports.")
@model_option
@click.option("--vote", type=click.Choice(list(METHODS)), default="mean", show_default=True, help="How chunks vote.")
@click.option("--top-k", type=int, default=3, show_default=True, help="Genres listed per track.")
@click.option("--coverage", default="full", metavar="full|SECONDS", help="Of each track.  [default: full]")
@click.option("--workers", type=int, default=None, help="Processes on this machine.  [default: one per core]")
@click.option("--batch-size", type=int, default=64, show_default=True, help="Chunks per prediction.")
@apply_options("none")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Pass over such files, as .gitignore has it.")
@click.option("--features-output", metavar="DIR", help="Keep the log-Mel features there, as TFRecords.")
@click.option("--features-input", metavar="DIR", help="Start from kept features instead of audio.")
@click.option(
    "--format",
    "formats",
    type=click.Choice([*FORMATS, *OLD_FORMATS]),
    multiple=True,
    metavar="|".join(FORMATS),
    help="Export the results too.",
)
@click.option("--retry-rejects", is_flag=True, help="Try files again that were rejected before.")
@click.option("--max-reject-share", type=float, default=0.2, show_default=True, help="Above it, leave with code 3.")
@click.option("--write-every", type=float, default=20.0, show_default=True, help="Seconds of work between two writes.")
@click.option("--track-timeout", type=float, default=60.0, show_default=True, help="Seconds a decoder may be mute.")
@engine_options
@json_option
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the libraries say.")
def command(
    library: tuple[str, ...],
    output: str,
    model: str | None,
    vote: str,
    top_k: int,
    coverage: str,
    batch_size: int,
    exclude: tuple[str, ...],
    features_output: str | None,
    features_input: str | None,
    formats: tuple[str, ...],
    retry_rejects: bool,
    max_reject_share: float,
    write_every: float,
    track_timeout: float,
    as_json: bool,
    quiet: bool,
    debug: bool,
    apply: tags.ApplyOptions,
    engine: Engine,
) -> int:
    """Hear the genre of every track in LIBRARY: folders, globs, manifests (.txt, .m3u, .csv or .parquet with a
    column uri) or single files.

    Results are added to OUTPUT. What is there already and has not changed is not analysed again, so a run
    that was killed goes on with the same command. No music file is changed, unless --write-tags says so.

    Flags of Beam and of its runners are passed on, for example --runner FlinkRunner --flink_master [local].
    """
    writes = apply.tags.policy != "none"
    if writes:
        tags.check_consent(apply, Console(stderr=True))  # before hours of work, not after
    options = TagOptions(
        libraries=library,
        output=output,
        model=model,
        engine=engine,
        vote=vote,
        top_k=top_k,
        batch_size=batch_size,
        exclude=exclude,
        features_output=features_output,
        features_input=features_input,
        retry_rejects=retry_rejects,
        max_reject_share=max_reject_share,
        write_every_s=write_every,
        limits=ExtractLimits(stall_s=track_timeout, coverage_s=_seconds(coverage)),
        quiet=quiet,
        dry_run=apply.dry_run,
    )
    if options.dry_run:
        report = tag(options, Console(stderr=True))
        if as_json:
            echo_json({**report.to_json(), "exported": [], "apply": None})
        elif not quiet:
            _show_plan(report, library, output)
        return EXIT_OK
    with quiet_libraries(output, debug=debug) as bar_console:
        report = tag(options, bar_console)
    if template := options.engine.writes_template:
        if as_json:
            echo_json({**report.to_json(), "template": template})
            return EXIT_OK
        click.echo(
            f"a template of {report.found - report.done_before:,} tracks -> {template}; nothing has been tagged yet"
        )
        return EXIT_OK
    exported = [export(output, kind) for kind in dict.fromkeys(OLD_FORMATS.get(kind, kind) for kind in formats)]
    too_many = report.reject_share > max_reject_share
    said = {**report.to_json(), "exported": exported, "apply": None}
    if not quiet and not as_json:
        _show(report, library, output, exported)
        if not writes and report.tagged + report.done_before:
            _show_next_steps(output)
    if writes:
        written = tags.apply_results(output, apply, console=Console(stderr=True, highlight=False))
        said["apply"] = written.to_json(planned=False)
        if not quiet and not as_json:
            tags.show(written, Screen(), planned=False)
    if as_json:
        echo_json(said)
    if too_many:
        click.echo(
            f"genrebeam: {report.reject_share:.0%} of the tracks were rejected, more than --max-reject-share "
            f"{max_reject_share:.0%}; the reasons: {shell_line('report', output)}",
            err=True,
        )
    return EXIT_TOO_MANY_REJECTS if too_many else EXIT_OK


def _seconds(coverage: str) -> float | None:
    if coverage == "full":
        return None
    try:
        return float(coverage)
    except ValueError:
        raise UsageError(f"--coverage must be full or a number of seconds, not {coverage!r}") from None


def _show_plan(report: TagReport, libraries: tuple[str, ...], output: str) -> None:
    table = _counts_table()
    table.add_row("would analyse", f"{report.to_analyse:,}", "tracks that are new or have changed")
    if report.from_embeddings:
        table.add_row("would score", f"{report.from_embeddings:,}", "by what was kept of them, without hearing them")
    if report.rejected:
        table.add_row("cannot be read", f"{report.rejected:,}", "new since an earlier run")
    _add_left_alone(table, report)
    console = Screen()
    console.print(table)
    _say_what_is_left_out(console, libraries, output)


def _counts_table() -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    return table


def _add_left_alone(table: Table, report: TagReport) -> None:
    if companions := report.not_audio + report.companions:
        table.add_row("not audio", f"{companions:,}", "covers, playlists and other companions")
    if report.done_before:
        table.add_row("done before", f"{report.done_before:,}", "unchanged since an earlier run")
    if report.renamed:
        table.add_row("renamed", f"{report.renamed:,}", "found under a new name")
    if report.gone:
        table.add_row("gone", f"{report.gone:,}", "no longer in the library")
    if report.unlisted:
        table.add_row("not seen", f"{report.unlisted:,}", "in folders that cannot be read; their results stay")


def _say_what_is_left_out(console: Screen, libraries: tuple[str, ...], output: str) -> None:
    here = local_path(output)
    if here is not None and any(
        there is not None and here.absolute().is_relative_to(there.absolute()) for there in map(local_path, libraries)
    ):
        console.print(f"left out: {output}, which lies inside the library", soft_wrap=True)


def _show(report: TagReport, libraries: tuple[str, ...], output: str, exported: list[str]) -> None:
    console = Screen()
    table = _counts_table()
    table.add_row("tagged", f"{report.tagged:,}", f"{report.audio_s / 3600:,.1f} h of audio in {report.wall_s:,.0f} s")
    for genre, count in sorted(report.genres.items(), key=lambda item: (-item[1], item[0])):
        table.add_row("", f"{count:,}", escape(spelled(genre)))
    if report.from_embeddings:
        table.add_row("not heard", f"{report.from_embeddings:,}", "of these: scored from stored embeddings")
    table.add_row("rejected", f"{report.rejected:,}", _counts(report.errors))
    if report.will_retry:
        table.add_row("try again", f"{report.will_retry:,}", "of these: not because of the files; run it again")
    _add_left_alone(table, report)
    console.print(table)
    _say_what_is_left_out(console, libraries, output)
    for path in [f"{output}/results", *exported]:
        console.print(f"-> {path}", soft_wrap=True)


def _show_next_steps(output: str) -> None:
    console = Screen()
    for what, line in (
        ("to look", shell_line("app", output)),
        ("to see what would be written", shell_line("apply", output, "--dry-run")),
        ("to write", shell_line("apply", output)),
    ):
        console.print(f"{what}: {line}", soft_wrap=True, markup=False)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
