"""Object stores for tests, over HTTP on this machine: S3 by moto, Google Cloud Storage by a small emulator.

Both stand behind `Moods`, which makes them misbehave: others write just before us, answers get lost, puts are refused.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import email
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import google_crc32c
import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from genrebeam.pipelines.storage import gcs, objects

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
BUCKET = "music"


class Moods:
    """Between client and store. The methods concern requests that write an object.

    Attributes:
        before: called with the path before the next write; then forgotten.
        refuse: answer all of them with this status and do nothing.
        lose: do so many of them and answer 503.
        deaf: forget the condition of a put, as stores do that never heard of it.
        no_tags: refuse to tell the tags of an object.
        cut: break off so many answers that carry more than a megabyte.
        asked: method and path of every request.
        sent_bytes: how much was answered, to requests that ask for something.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.reset()

    def reset(self) -> None:
        self.before: Callable[[str], Any] | None = None
        self.refuse = self.lose = self.cut = 0
        self.deaf = self.no_tags = False
        self.asked: list[tuple[str, str]] = []
        self.sent_bytes = 0

    def writes(self) -> list[str]:
        return [path for method, path in self.asked if _is_write(method, path)]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if environ.get("HTTP_X_BY") == "somebody else":
            return self._app(environ, start_response)
        if self.deaf:
            environ.pop("HTTP_IF_MATCH", None)
        if path.endswith(".tmp"):
            return self._app(environ, start_response)
        self.asked.append((method, path))
        if self.no_tags and environ.get("QUERY_STRING") == "tagging":
            return _answer(start_response, 403)
        if not _is_write(method, path):
            return self._perhaps_cut(self._app(environ, start_response))
        if self.before:
            before, self.before = self.before, None
            before(path)
        if self.refuse:
            return _answer(start_response, self.refuse)
        if self.lose:
            self.lose -= 1
            for _ in self._app(environ, lambda *answer: None):
                pass
            return _answer(start_response, 503)
        return self._app(environ, start_response)

    def _perhaps_cut(self, body: Iterable[bytes]) -> Iterator[bytes]:
        for block in body:
            if self.cut and len(block) > 1 << 20:
                self.cut -= 1
                yield block[: 1 << 20]
                raise ConnectionAbortedError  # the server then closes the connection
            self.sent_bytes += len(block)
            yield block


def _is_write(method: str, path: str) -> bool:
    return method in ("PUT", "POST") and (path.startswith("/upload/") or path.count("/") > 1)


def _answer(start_response: Callable[..., Any], status: int) -> list[bytes]:
    body = b"<Error><Code>Mood</Code><Message>in a mood</Message></Error>"
    start_response(f"{status} Mood", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


@contextlib.contextmanager
def serve(app: App) -> Iterator[str]:
    """The URL of a server in this process."""

    class Quiet(WSGIRequestHandler):
        def log(self, *arguments: Any) -> None: ...

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class FakeGcs:
    """As much of the JSON API as google-cloud-storage needs to list, read and write objects under conditions."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self._uploads: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}
        self._generation = time.time_ns() // 1000

    def write(self, name: str, data: bytes, about: dict[str, Any]) -> dict[str, Any]:
        self._generation += 1
        now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        crc = base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
        if about.get("crc32c", crc) != crc:
            raise ValueError("checksum")
        facts = {
            "storageClass": "STANDARD", "contentType": "application/octet-stream", **about, "name": name,
            "bucket": BUCKET, "size": str(len(data)), "generation": str(self._generation), "metageneration": "1",
            "timeCreated": now, "updated": now, "crc32c": crc,
        }  # fmt: skip
        self.objects[name] = (data, facts)
        return facts

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", "")))
        length = environ.get("CONTENT_LENGTH")
        if length:
            body = environ["wsgi.input"].read(int(length))
        else:
            body = environ["wsgi.input"].read() if environ.get("HTTP_TRANSFER_ENCODING") == "chunked" else b""
        status, headers, answer = self._respond(environ, query, body)
        start_response(f"{status} so", [*headers.items(), ("Content-Length", str(len(answer)))])
        return [answer]

    def _respond(
        self, environ: dict[str, Any], query: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        kind, ours, name = environ["PATH_INFO"].partition(f"/b/{BUCKET}/o")
        if not ours:
            return _json(404, _error(404, "The specified bucket does not exist."))
        name = name.removeprefix("/")
        if kind.startswith("/upload/"):
            return self._upload(environ, query, body)
        if not name:
            found = [
                facts for key, (_, facts) in sorted(self.objects.items()) if key.startswith(query.get("prefix", ""))
            ]
            return _json(200, {"items": found})
        if name not in self.objects:
            return _json(404, _error(404, "No such object"))
        data, facts = self.objects[name]
        if environ["REQUEST_METHOD"] == "DELETE":
            del self.objects[name]
            return 204, {}, b""
        if query.get("ifGenerationMatch", facts["generation"]) != facts["generation"]:
            return _json(412, _error(412, "conditionNotMet"))
        if kind.startswith("/download/"):
            headers = {"X-Goog-Hash": f"crc32c={facts['crc32c']}", "X-Goog-Generation": facts["generation"]}
            headers["Content-Type"] = facts["contentType"]
            if part := re.fullmatch(r"bytes=(\d+)-(\d+)", environ.get("HTTP_RANGE", "")):
                first, last = int(part[1]), min(int(part[2]), len(data) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
                return 206, headers, data[first : last + 1]
            return 200, headers, data
        return _json(200, facts)

    def _upload(self, environ: dict[str, Any], query: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if query["uploadType"] == "multipart":
            head = f"Content-Type: {environ['CONTENT_TYPE']}\r\n\r\n".encode()
            about, media = email.message_from_bytes(head + body).get_payload()
            boundary = environ["CONTENT_TYPE"].partition("boundary=")[2].strip('"').encode()
            raw = body.split(b"\r\n\r\n", 2)[2].rpartition(b"\r\n--" + boundary)[0]  # email would touch line ends
            facts = {"contentType": media.get_content_type(), **json.loads(about.get_payload())}
            return self._finish(query, facts, raw)
        if "upload_id" not in query:
            number = str(len(self._uploads))
            facts = {"contentType": environ.get("HTTP_X_UPLOAD_CONTENT_TYPE"), **json.loads(body)}
            self._uploads[number] = (query, facts)
            host = f"http://{environ['HTTP_HOST']}{urllib.parse.quote(environ['PATH_INFO'])}"
            return 200, {"Location": f"{host}?uploadType=resumable&upload_id={number}"}, b""
        return self._finish(*self._uploads[query["upload_id"]], body)

    def _finish(self, query: dict[str, str], facts: dict[str, Any], data: bytes) -> tuple[int, dict[str, str], bytes]:
        now = self.objects.get(facts["name"], (b"", {"generation": "0", "metageneration": "0"}))[1]
        for condition, fact in (("ifGenerationMatch", "generation"), ("ifMetagenerationMatch", "metageneration")):
            if query.get(condition, now[fact]) != now[fact]:
                return _json(412, _error(412, "At least one of the pre-conditions you specified did not hold."))
        return _json(200, self.write(facts["name"], data, facts))


def _json(status: int, value: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "errors": []}}


class S3Bucket:
    """A bucket as somebody else uses it, and the moods of its store."""

    scheme = "s3"

    def __init__(self, endpoint: str, moods: Moods) -> None:
        import boto3

        self.moods = moods
        self._client = boto3.session.Session().client("s3", endpoint_url=endpoint)
        self._client.meta.events.register(
            "before-sign.s3.*", lambda request, **_: request.headers.add_header("X-By", "somebody else")
        )
        self._client.create_bucket(Bucket=BUCKET)

    def url(self, name: str) -> str:
        return f"s3://{BUCKET}/{name}"

    def write(self, name: str, data: bytes) -> None:
        self._client.put_object(
            Bucket=BUCKET, Key=name, Body=data, ContentType="audio/x-odd", CacheControl="max-age=7",
            ContentDisposition="inline", ContentLanguage="tlh", Metadata={"shelf": "7", "note": "keep me"},
            StorageClass="STANDARD_IA", Tagging="owner=me&rights=all%20mine",
        )  # fmt: skip

    def read(self, name: str) -> bytes:
        return self._client.get_object(Bucket=BUCKET, Key=name)["Body"].read()

    def about(self, name: str) -> dict[str, Any]:
        """What is to be kept."""
        head = self._client.head_object(Bucket=BUCKET, Key=name)
        names = "ContentType CacheControl ContentDisposition ContentLanguage Metadata StorageClass".split()
        tags = self._client.get_object_tagging(Bucket=BUCKET, Key=name)["TagSet"]
        return {n: head[n] for n in names} | {"tags": sorted((tag["Key"], tag["Value"]) for tag in tags)}

    def remove(self, name: str) -> None:
        self._client.delete_object(Bucket=BUCKET, Key=name)

    def names(self) -> list[str]:
        return [found["Key"] for found in self._client.list_objects_v2(Bucket=BUCKET).get("Contents", ())]


class GcsBucket:
    """The same for the emulator."""

    scheme = "gs"

    def __init__(self, store: FakeGcs, moods: Moods) -> None:
        self._store, self.moods = store, moods

    def url(self, name: str) -> str:
        return f"gs://{BUCKET}/{name}"

    def write(self, name: str, data: bytes) -> None:
        about = {
            "contentType": "audio/x-odd", "cacheControl": "max-age=7", "contentDisposition": "inline",
            "contentLanguage": "tlh", "metadata": {"shelf": "7", "note": "keep me"}, "storageClass": "NEARLINE",
            "customTime": "2001-02-03T04:05:06Z",
        }  # fmt: skip
        self._store.write(name, data, about)

    def read(self, name: str) -> bytes:
        return self._store.objects[name][0]

    def about(self, name: str) -> dict[str, Any]:
        facts = self._store.objects[name][1]
        names = "contentType cacheControl contentDisposition contentLanguage metadata storageClass".split()
        return {n: facts.get(n) for n in names} | {"customTime": facts.get("customTime", "")[:19]}

    def edit(self, name: str, **metadata: str) -> None:
        """Change metadata and not the content."""
        facts = self._store.objects[name][1]
        facts |= metadata
        facts["metageneration"] = str(int(facts["metageneration"]) + 1)

    def remove(self, name: str) -> None:
        del self._store.objects[name]

    def names(self) -> list[str]:
        return sorted(self._store.objects)


Bucket = S3Bucket | GcsBucket


@contextlib.contextmanager
def bucket_of(scheme: str) -> Iterator[Bucket]:
    """An empty bucket, and an environment in which clients find it; skips where a package is missing."""
    pytest.importorskip({"s3": "moto", "gs": "google.cloud.storage"}[scheme])
    forget_clients()
    with pytest.MonkeyPatch.context() as patch, {"s3": _s3_bucket, "gs": _gcs_bucket}[scheme](patch) as bucket:
        yield bucket
    forget_clients()


def forget_clients() -> None:
    for make in objects._STORES.values():
        make.cache_clear()


@contextlib.contextmanager
def _s3_bucket(patch: pytest.MonkeyPatch) -> Iterator[S3Bucket]:
    import requests
    from moto.server import DomainDispatcherApplication, create_backend_app

    moods = Moods(DomainDispatcherApplication(create_backend_app))
    with serve(moods) as endpoint:
        requests.post(f"{endpoint}/moto-api/reset", timeout=60)
        environment = {
            "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null",
            "AWS_MAX_ATTEMPTS": "2",
        }  # fmt: skip
        for name, value in environment.items():
            patch.setenv(name, value)
        bucket = S3Bucket(endpoint, moods)
        moods.reset()
        yield bucket


@contextlib.contextmanager
def _gcs_bucket(patch: pytest.MonkeyPatch) -> Iterator[GcsBucket]:
    store = FakeGcs()
    moods = Moods(store)
    with serve(moods) as endpoint:
        patch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        patch.setattr(gcs.Gcs, "_GIVE_UP_S", 2.0)
        yield GcsBucket(store, moods)
