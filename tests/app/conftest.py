"""A server of the application in this process, and questions to it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import synth
import tagfiles


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served(NamedTuple):
    """A running server, its results folder, and what else is there."""

    address: str
    folder: Path

    def ask(self, path: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        kind = {} if body is None or isinstance(body, bytes) else {"content-type": "application/json"}
        request = urllib.request.Request(self.address + path, data, {**kind, **(headers or {})}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.read(), answer.headers)
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read(), error.headers)

    def send(self, path: str, name: str, data: bytes) -> Answer:
        """A file as a form has it."""
        head = f'--x\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        headers = {"content-type": "multipart/form-data; boundary=x"}
        return self.ask(path, "POST", head + data + b"\r\n--x--\r\n", headers)


@contextlib.contextmanager
def serving(folder: Path | None, **options: Any) -> Iterator[Served]:
    import uvicorn

    from genrebeam.app.catalog import Catalog
    from genrebeam.app.hearing import Hearing
    from genrebeam.app.served import Served as Shown
    from genrebeam.app.server import make_app

    listening = socket.create_server(("127.0.0.1", 0))
    catalog = None if folder is None else Catalog(folder)
    with Hearing() as hearing, Shown(hearing, catalog, "Ada") as shown:
        config = uvicorn.Config(make_app(shown, **options), log_level="error", ws="none", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", folder or Path())
        finally:
            server.should_exit = True
            thread.join(30)


SONGS = ("Artist/first.mp3", "Artist/second [x]_*.flac", "Other/third #1?.wma", "gone.mp3")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three songs, and the results of four: the file of the last is gone. Tests that write copy it."""
    pytest.importorskip(
        "fastapi", reason="SKIPPED: the application, for want of FastAPI (pip install 'genrebeam[app]')"
    )
    folder = tmp_path_factory.mktemp("library")
    heard = {}
    for number, name in enumerate(SONGS):
        path = synth.write(folder / "music" / name, synth.music(9.0 + number, seed=number, channels=2))
        heard[path] = [("rock", 0.3 + number / 10), ("jazz", 0.2)]
    tagfiles.results(folder / "out", heard, root=folder / "music")
    (folder / "music" / SONGS[-1]).unlink()
    (folder / "secret.txt").write_text("nobody may see this")
    return folder
