"""What the commands share that run on any Beam runner."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from genrebeam.pipelines.commands.helps import write_options
from genrebeam.pipelines.engine.runner import WORKER_TIMEOUT_S, Engine, split_beam_flags, usable_cores


class BeamCommand(click.Command):
    """Takes Beam's own flags out of the command line before click sees it; the command finds them in `ctx.obj`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = frozenset(name for parameter in self.params for name in [*parameter.opts, *parameter.secondary_opts])
        ours, ctx.obj = split_beam_flags(args, own | {"--help"})
        return super().parse_args(ctx, ours)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(ctx, self.get_params(ctx), formatter)


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--runner and what belongs to it, for a BeamCommand with --workers; it gets all that as `engine: Engine`."""

    @click.option("--runner", help="A Beam runner and, after it, its flags.  [default: this machine]")
    @click.option("--shared-filesystem", is_flag=True, help="The runner's workers mount this machine's folders too.")
    @click.option(
        "--worker-timeout",
        type=float,
        default=WORKER_TIMEOUT_S,
        show_default=True,
        help="Seconds for a first worker of --runner to begin.",
    )
    @click.pass_context
    @functools.wraps(function)
    def command(
        ctx: click.Context,
        *args: Any,
        runner: str | None,
        shared_filesystem: bool,
        worker_timeout: float,
        workers: int | None,
        **values: Any,
    ) -> Any:
        count = usable_cores() if workers is None else workers
        engine = Engine(runner, count, tuple(ctx.obj), shared_filesystem, worker_timeout)
        return function(*args, engine=engine, **values)

    return command
