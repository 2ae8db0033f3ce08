"""What happens after a run of the engine that failed: what is left is launched again, until it is done or hopeless.

Rows are durable as they are made, so a failed run has lost what its workers had in hand, and no more.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Collection, Iterator
from typing import Protocol

from genrebeam.features.errors import GenrebeamError

_LOGGER = logging.getLogger(__name__)
_DEATHS = 2  # of workers that had an item in hand, before it has to show alone what it does
_IN_VAIN, _ALONE = 3, 5  # failures in a row, of runs over all that is left and over single items, with nothing done


class EngineError(GenrebeamError):
    """The engine failed in a way that no single track explains."""

    exit_code = 1


class Work(Protocol):
    """What there is to do. It may be millions of items; those that are named are few."""

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

    Items that workers had in hand come last in the next run; one that was in hand when workers died twice is then
    launched alone, and given up on if that fails. So an item that kills its worker costs itself only, and a worker that
    something else kills costs a few seconds.

    Raises:
        EngineError: run after run fails and nothing gets done; the reason is not in the items.
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
