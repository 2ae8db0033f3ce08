"""Who may ask the server: checks of host, origin, token and size before any route runs. Plain ASGI."""

from __future__ import annotations

import hmac
import json
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "genrebeam-token"
_SAFE = ("GET", "HEAD", "OPTIONS")
_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; style-src-attr 'unsafe-inline'; "
     b"media-src 'self' blob:; img-src 'self' data:; "
     b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]  # fmt: skip


class TooLarge(Exception):
    """A body is larger than may be sent."""


class Guard:
    """Wraps the application.

    On this machine's own addresses it answers to their names only, so that a page elsewhere whose name leads here gets
    nothing. On any other address every request needs the token, as `Authorization: Bearer`, as a cookie, or, once, as
    `?token=` of a page's address. What changes something has to come from a page of this server or from no page.

    Args:
        token: None where only this machine can reach the server.
        max_bytes: of a body.
    """

    def __init__(self, app: Any, *, token: str | None, max_bytes: int) -> None:
        self._app, self._token, self._max_bytes = app, token, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self._token is None and _name(host) not in LOOPBACK:
            await _refuse(send, 403, f"this server does not answer to the name {host[:80]}")
        elif scope["method"] not in _SAFE and not _is_own(headers, host):
            await _refuse(send, 403, "a page of another site may not ask this")
        elif self._token is not None and not self._knows(headers):
            await self._let_in(scope, send)
        elif int(headers.get("content-length") or 0) > self._max_bytes:
            await _refuse(send, 413, f"files are {self._max_bytes >> 20} MB at most here (--max-upload)")
        else:
            await self._app(scope, self._counted(receive), _with_headers(send))

    def _knows(self, headers: dict[str, str]) -> bool:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            pass
        given = [cookies[COOKIE].value] if COOKIE in cookies else []
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given += [bearer.strip()] if scheme.lower() == "bearer" else []
        return any(self._is_token(one) for one in given)

    def _is_token(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())

    async def _let_in(self, scope: Scope, send: Send) -> None:
        """A token in a page's address becomes a cookie, so that it stands in the address no longer."""
        query = urllib.parse.parse_qsl(scope["query_string"].decode("latin-1"))
        if scope["method"] != "GET" or not any(name == "token" and self._is_token(value) for name, value in query):
            await _refuse(send, 401, "open the address that `genrebeam app` printed, or send its token as a Bearer")
            return
        rest = urllib.parse.urlencode([(name, value) for name, value in query if name != "token"])
        place = urllib.parse.quote(scope["path"]) + (f"?{rest}" if rest else "")
        cookie = f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000"
        await _answer(
            send, 303, b"", [(b"location", ("/" + place.lstrip("/")).encode()), (b"set-cookie", cookie.encode())]
        )

    def _counted(self, receive: Receive) -> Receive:
        left = self._max_bytes + (1 << 16)  # a form has a few lines around the file

        async def counted() -> MutableMapping[str, Any]:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLarge
            return message

        return counted


def _name(host: str) -> str:
    """A Host header without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()


def _is_own(headers: dict[str, str], host: str) -> bool:
    """Whether a request comes from a page of this server, or from a program."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urllib.parse.urlsplit(origin).netloc == host


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return sent


async def _refuse(send: Send, status: int, why: str) -> None:
    await _answer(send, status, json.dumps({"error": why}).encode(), [(b"content-type", b"application/json")])


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})
