"""`genrebeam app`: its options, and the server. What it shows is in app/server.py.

The command line knows this module by name only, so that nothing in pipelines/ depends on the application.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
import threading
import urllib.parse
import webbrowser
from concurrent.futures import ThreadPoolExecutor

import click

from genrebeam.features.errors import UsageError, how_to_install
from genrebeam.pipelines.commands.options import model_option
from genrebeam.pipelines.commands.reader import has_desktop

_NEEDED = ("fastapi", "uvicorn", "python_multipart")


@click.command("app")
@click.argument("results", metavar="[DIR]", required=False)
@model_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option(
    "--token",
    envvar="GENREBEAM_TOKEN",
    metavar="WORD",
    help="What visitors of another --host need.  [default: a new one]",
)
@click.option("--by", metavar="NAME", help="Who corrects.  [default: the user]")
@click.option("--max-upload", type=click.IntRange(1, 2000), default=200, show_default=True, metavar="MB")
@click.option("--no-browser", is_flag=True, help="Open no browser, only print the address.")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the libraries say.")
def command(
    results: str | None,
    model: str | None,
    host: str,
    port: int,
    token: str | None,
    by: str | None,
    max_upload: int,
    no_browser: bool,
    debug: bool,
) -> None:
    """Hear, browse, correct and write tags in a browser: the tracks of DIR, a results folder, and files that you send.

    Only this machine can reach it, unless --host says otherwise.
    """
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        raise UsageError(f"the application needs FastAPI and Uvicorn: {how_to_install('app')}")
    # Arrow's own pools keep the memory that reading a catalog has needed for a moment.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    listening = _listen(host, port)
    from genrebeam.app.catalog import Catalog

    reading = ThreadPoolExecutor(1).submit(Catalog, results) if results is not None else None
    from genrebeam.app.guard import LOOPBACK
    from genrebeam.app.hearing import Hearing
    from genrebeam.app.served import Served
    from genrebeam.app.server import make_app
    from genrebeam.pipelines.commands.correct import user
    from genrebeam.pipelines.engine.quiet import quiet_libraries

    catalog = reading.result() if reading is not None else None
    with Hearing(model) as hearing, Served(hearing, catalog, user() if by is None else by, debug) as served:
        hearing.warm()
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{port}/"
        token = None if host in LOOPBACK else token or secrets.token_urlsafe(16)
        if token is not None:
            address += f"?{urllib.parse.urlencode({'token': token})}"
        click.echo(f"genrebeam app: {address}   (Ctrl-C ends it)")
        if token is not None:
            click.echo(
                "Everybody who has this address can play the catalog, correct genres and write tags. "
                "Nothing is encrypted.",
                err=True,
            )
        if not no_browser and has_desktop():
            threading.Timer(0.3, webbrowser.open, [address]).start()
        with quiet_libraries(results or "genrebeam-app", debug=debug):
            _run(make_app(served, token=token, max_upload_mb=max_upload), listening, debug=debug)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; raises UsageError where the port cannot be opened."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; try another --port"
        ) from error
    return listening


def _run(app: object, listening: socket.socket, *, debug: bool) -> None:
    """Serve until it is interrupted."""
    import uvicorn

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_level="info" if debug else "error",
        access_log=debug,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=2,  # seconds; a player may hold its connection for the whole song
    )
    uvicorn.Server(config).run(sockets=[listening])
