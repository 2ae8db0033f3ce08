"""What the commands share that run on any Beam runner."""

from __future__ import annotations

import click

from pipelines.engine.runner import split_beam_flags


class BeamCommand(click.Command):
    """Takes Beam's own flags out of the command line before click sees it; the command finds them in `ctx.obj`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = frozenset(name for parameter in self.params for name in [*parameter.opts, *parameter.secondary_opts])
        ours, ctx.obj = split_beam_flags(args, own | {"--help"})
        return super().parse_args(ctx, ours)
