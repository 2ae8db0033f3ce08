"""The routes of the page of own words: learn them, and give them to tracks."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from genrebeam.app.api import Wanted
from genrebeam.app.served import Served


class Learned(BaseModel):
    """What learning is doing, and what came of it."""

    doing: str = Field(description="learning, retagging, or nothing")
    message: str
    learned: dict[str, Any] = Field(description="the report of the last run: figures of words, promise, next, ...")


def routes(served: Served) -> APIRouter:
    """The routes over what a server shows."""
    api = APIRouter(tags=["own words"])

    @api.get("/api/learn")
    def progress() -> Learned:
        """What learning is doing, and what came of it."""
        return Learned(**dataclasses.asdict(served.learning.state))

    @api.post("/api/learn", status_code=202)
    def learn() -> Learned:
        """Begin to learn the catalog's own words, as `genrebeam learn` does."""
        served.learning.learn()
        return progress()

    @api.post("/api/learn/retag", status_code=202)
    def retag(wanted: Wanted) -> Learned:
        """Begin to give the learned words to the tracks of a list, from their stored embeddings."""
        served.learning.retag(wanted)
        return progress()

    return api
