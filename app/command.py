"""`genrebeam app`: its options, and the server. What it shows is in app/pages.py.

The command line knows this module by name only, so that nothing in pipelines/ depends on the application.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import socket
from pathlib import Path

import click

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.commands.options import model_option

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command("app")
@click.argument("results", metavar="[DIR]", required=False)
@model_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option("--by", metavar="NAME", help="Who corrects.  [default: the user]")
@click.option("--max-upload", type=click.IntRange(1, 2000), default=200, show_default=True, metavar="MB")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the libraries say.")
def command(
    results: str | None, model: str | None, host: str, port: int, by: str | None, max_upload: int, debug: bool
) -> None:
    """Hear, browse and correct in a browser: a file that you send, and the tracks of DIR, a results folder.

    Only this machine can reach it, unless --host says otherwise.
    """
    if importlib.util.find_spec("streamlit") is None or importlib.util.find_spec("matplotlib") is None:
        raise UsageError("the application needs Streamlit and matplotlib: pip install 'genrebeam[app]'")
    from genrebeam.app.catalog import Catalog
    from genrebeam.app.hearing import Hearing
    from genrebeam.app.served import Served, serve
    from genrebeam.pipelines.commands.correct import user
    from genrebeam.pipelines.engine.quiet import quiet_libraries

    _check_free(host, port)
    catalog = Catalog(results) if results is not None else None
    with Hearing(model) as hearing:
        serve(Served(hearing, catalog, user() if by is None else by, debug))
        hearing.warm()
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"genrebeam app: http://{shown}:{port}/   (Ctrl-C ends it)")
        if host not in _LOOPBACK:
            click.echo(
                "Everybody who can reach this address can play the catalog, upload files and correct genres.", err=True
            )
        with quiet_libraries(results or "genrebeam-app", debug=debug):
            _run(host, port, max_upload, debug=debug)


def _check_free(host: str, port: int) -> None:
    """Raises UsageError where the port cannot be opened."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; try another --port"
        ) from error


def _run(host: str, port: int, max_upload: int, *, debug: bool) -> None:
    """Streamlit in this process, until it is interrupted. Its configuration files are overruled where it matters."""
    from streamlit.web import cli

    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": True,  # neither opens a browser nor asks for a mail address
        "server.maxUploadSize": max_upload,
        "server.fileWatcherType": "none",
        "server.enableStaticServing": False,
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
        "theme.primaryColor": "#0072B2",
        "client.showErrorDetails": "full" if debug else "none",
        "logger.level": "info" if debug else "error",
    }
    flags = [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in options.items()]
    if host in _LOOPBACK:  # a page elsewhere that resolves its own name to this machine gets nothing
        flags += [f"--server.allowedHosts={name}" for name in ("127.0.0.1", "localhost", "[::1]")]
    said = (
        contextlib.nullcontext() if debug else contextlib.redirect_stdout(io.StringIO())
    )  # the address is printed already
    with said:
        cli.main(args=["run", str(Path(__file__).with_name("main.py")), *flags], standalone_mode=False)
