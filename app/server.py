"""The application as one ASGI app: routes, pages, static files, and errors as sentences."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response

from genrebeam.app import api, guard, learn_api, site, write_api
from genrebeam.app.served import Served
from genrebeam.features.errors import GenrebeamError, LedgerError, TransientError, UsageError

_LOGGER = logging.getLogger(__name__)


def make_app(served: Served, *, token: str | None = None, max_upload_mb: int = 200) -> Any:
    """An ASGI application over what is served.

    Args:
        token: what every request needs; None where only this machine can reach the server.
        max_upload_mb: the largest file that may be sent.
    """
    app = FastAPI(
        title="genrebeam",
        description="Hear a file; browse and correct a tagged catalog.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(api.routes(served))
    app.include_router(write_api.routes(served))
    app.include_router(learn_api.routes(served))
    app.include_router(site.routes(served))
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")))

    @app.exception_handler(GenrebeamError)
    async def known(request: Request, error: GenrebeamError) -> Response:
        status = (
            400 if isinstance(error, UsageError) else 503 if isinstance(error, TransientError | LedgerError) else 422
        )
        return _answer(request, status, str(error))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return _answer(request, error.status_code, str(error.detail))

    @app.exception_handler(404)
    async def absent(request: Request, error: Exception) -> Response:
        return _answer(request, 404, str(getattr(error, "detail", "")) or "There is no such page.")

    @app.exception_handler(OSError)
    async def system(request: Request, error: OSError) -> Response:
        return _answer(request, 503, f"{error.filename or 'The results folder'}: {error.strerror or error}")

    @app.exception_handler(guard.TooLarge)
    async def too_large(request: Request, error: guard.TooLarge) -> Response:
        return _answer(request, 413, f"files are {max_upload_mb} MB at most here (--max-upload)")

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        _LOGGER.exception("%s", request.url.path)
        if served.debug:
            raise error
        what = f"{type(error).__name__}: {str(error)[:300]}"
        return _answer(request, 500, f"A fault of genrebeam: {what} (--debug shows where)")

    return guard.Guard(app, token=token, max_bytes=max_upload_mb << 20)


def _answer(request: Request, status: int, why: str) -> Response:
    if request.url.path.startswith(("/api/", "/sound/")):
        return JSONResponse({"error": why}, status)
    return site.sentence(why, status)
