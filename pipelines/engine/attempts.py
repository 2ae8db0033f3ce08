"""Retries after a failed run of the engine: launch what is left, until all is done or nothing helps.

Rows are durable as they are made, so a failed run loses only what its workers were working on.
"""

from __future__ import annotations

import collections
import logging
import re
from collections.abc import Collection, Iterator
from typing import Protocol

from genrebeam.features.errors import DecoderUnavailable, GenrebeamError

_LOGGER = logging.getLogger(__name__)
# What a worker says comes as the text of its traceback.
_UNAVAILABLE = re.compile(rf"{DecoderUnavailable.__name__}: (.+?)(?: \[while running .*)?$", re.MULTILINE)
_DEATHS = 2  # of workers while they worked on an item, before the item is launched alone
_IN_VAIN, _ALONE = 3, 5  # failures in a row without any result, of runs over all items and over single ones


class EngineError(GenrebeamError):
    """The engine failed in a way that no single track explains."""

    exit_code = 1


class Work(Protocol):
    """The work to be done. There may be millions of items; few of them are ever named."""

    def launch(self, *, last: Collection[str], without: Collection[str]) -> None:
        """Do all that is left, some items at the end and some not at all. Returns when all is done, or raises."""

    def launch_alone(self, item: str) -> None:
        """Do one item."""

    def written(self) -> int:
        """A number that grows while results are written."""

    def left_of(self, items: Collection[str]) -> set[str]:
        """Which of some items are not done yet, according to what is durable."""

    def unfinished(self) -> Collection[str]:
        """What workers had begun and not ended when the last run failed."""

    def give_up_on(self, item: str, error: Exception) -> None:
        """Record an item that fails on its own."""


def run_until_done(work: Work) -> None:
    """Launch a run over all items, and after a failure another over what is left.

    Items that workers were working on come last in the next run. An item on which workers died twice is launched alone,
    and given up on if that fails. So an item that kills its worker costs itself only, and a worker that
    something else kills costs a few seconds.

    Raises:
        EngineError: run after run fails and nothing gets done; the reason is not in the items.
        DecoderUnavailable: a worker cannot start what decodes: no other run will do better.
    """
    deaths: collections.Counter[str] = collections.Counter()
    lost: dict[str, Exception] = {}
    in_vain, lone, ended = 0, 0, False
    while not ended:
        left = work.left_of(deaths.keys() - lost.keys()) if deaths else set()
        suspect = min((item for item in left if deaths[item] >= _DEATHS), default=None)
        before = work.written()
        try:
            if suspect is None:
                work.launch(last=sorted(left, key=lambda item: (deaths[item], item)), without=lost)
            else:
                work.launch_alone(suspect)
        except GenrebeamError:
            raise
        except Exception as failure:
            _LOGGER.warning("a run failed", exc_info=True)
            if said := _UNAVAILABLE.findall(str(failure)):
                raise DecoderUnavailable(said[-1]) from failure
            if work.written() > before:
                in_vain = lone = 0
            elif suspect is None:
                in_vain += 1
            else:
                lone += 1
            if in_vain >= _IN_VAIN or lone >= _ALONE:
                raise EngineError(f"the pipeline fails whatever the track: {last_line(failure)}") from failure
            if suspect is None:
                deaths.update(work.unfinished())
            elif work.left_of([suspect]):
                lost[suspect] = failure
        else:
            in_vain = lone = 0
            ended = suspect is None
        if not (in_vain or lone):  # the engine works, so these items were the reason
            for item, why in lost.items():
                work.give_up_on(item, why)
                del deaths[item]
            lost.clear()


def last_line(error: Exception) -> str:
    """The end of a Beam error, which carries a worker's whole traceback: the exception itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    plain: Iterator[str] = (line for line in reversed(lines) if ":" in line and not line.startswith(("File ", "^")))
    return next(plain, lines[-1] if lines else type(error).__name__).split(" [while running")[0]
