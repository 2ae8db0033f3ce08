"""What happens after a run of the engine that failed: what is left is launched again, until it is done or hopeless.

Rows are durable as they are made, so a failed run has lost what its workers had in hand, and no more.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

from features.errors import GenrebeamError

_LOGGER = logging.getLogger(__name__)
_DEATHS = 2  # of workers that had an item in hand, before it has to show alone what it does
_IN_VAIN, _ALONE = 3, 5  # failures in a row, of runs over all that is left and over single items, with nothing done

Item = TypeVar("Item", bound=Hashable)


class EngineError(GenrebeamError):
    """The engine failed in a way that no single track explains."""

    exit_code = 1


def work_off(
    items: Sequence[Item],
    launch: Callable[[Sequence[Item]], None],
    *,
    written: Callable[[], int],
    left_of: Callable[[Sequence[Item]], list[Item]],
    in_hand: Callable[[Sequence[Item]], list[Item]],
    give_up_on: Callable[[Item, Exception], None],
) -> None:
    """Launch a run over all items, and after a failure another over what is left.

    Items that workers had in hand come last in the next run; one that was in hand when workers died twice is then
    launched alone, and given up on if that fails. So an item that kills its worker costs itself only, and a worker that
    something else kills costs a few seconds.

    Args:
        launch: does items, and returns when all are done.
        written: how many results there are by now.
        left_of: which of some items are not done yet, according to what is durable.
        in_hand: which of some items a worker had begun and not ended when the last run failed.
        give_up_on: records an item that fails on its own.

    Raises:
        EngineError: run after run fails and nothing gets done; the reason is not in the items.
    """
    deaths: collections.Counter[Item] = collections.Counter()
    left, in_vain, lone = list(items), 0, 0
    lost: list[tuple[Item, Exception]] = []
    while left:
        suspects = [item for item in left if deaths[item] >= _DEATHS]
        stretch = suspects[:1] or sorted(left, key=lambda item: deaths[item])
        before = written()
        try:
            launch(stretch)
        except GenrebeamError:
            raise
        except Exception as failure:
            _LOGGER.warning("a run over %d items failed", len(stretch), exc_info=True)
            if written() > before:
                in_vain = lone = 0
            elif suspects:
                lone += 1
            else:
                in_vain += 1
            left = left_of(left)
            if in_vain >= _IN_VAIN or lone >= _ALONE:
                raise EngineError(f"the pipeline fails whatever the track: {last_line(failure)}") from failure
            if not suspects:
                deaths.update(in_hand(left))
            elif stretch[0] in left:
                lost.append((stretch[0], failure))
                left.remove(stretch[0])
        else:
            in_vain = lone = 0
            done = set(stretch)
            left = [item for item in left if item not in done]
        if not (in_vain or lone) or not left:  # the engine works, so these items were the reason
            for item, why in lost:
                give_up_on(item, why)
            lost.clear()


def last_line(error: Exception) -> str:
    """The end of a Beam error, which carries a worker's whole traceback: the exception itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    plain: Iterator[str] = (line for line in reversed(lines) if ":" in line and not line.startswith(("File ", "^")))
    return next(plain, lines[-1] if lines else type(error).__name__).split(" [while running")[0]
