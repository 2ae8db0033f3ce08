"""What a running server shows, and the words that it shows genres by."""

from __future__ import annotations

import collections
import dataclasses
import functools

from genrebeam.app.catalog import Catalog, CatalogView
from genrebeam.app.hearing import LIMITS, Hearing
from genrebeam.app.learning import Learning
from genrebeam.app.sound import Sounds, libraries_of
from genrebeam.app.writing import Writing
from genrebeam.features.errors import UsageError
from genrebeam.pipelines.dataset.corrections import words_of
from genrebeam.pipelines.tags.policy import spelled
from genrebeam.pipelines.tags.words import same

_OWN_WORDS = 8  # offered beside the model's


@dataclasses.dataclass
class Served:
    """`by` is the name for corrections; all visitors share it. Close it, or use it as a context manager."""

    hearing: Hearing
    catalog: Catalog | None = None
    by: str = ""
    debug: bool = False

    def __post_init__(self) -> None:
        self.sounds = Sounds(LIMITS, libraries_of(self.catalog.dataset) if self.catalog else ())
        self._writing = Writing(self.catalog) if self.catalog else None
        self._learning = Learning(self.catalog) if self.catalog else None

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None:
        if self._writing is not None:
            self._writing.close()
        if self._learning is not None:
            self._learning.close()
        self.sounds.close()

    @property
    def found(self) -> Catalog:
        """The catalog; raises UsageError where the server has none."""
        if self.catalog is None:
            raise UsageError("this server shows no results folder: start it as `genrebeam app DIR`")
        return self.catalog

    @property
    def writing(self) -> Writing:
        """What writes into the catalog's files; raises UsageError where the server has none."""
        assert self.found
        assert self._writing is not None
        return self._writing

    @property
    def learning(self) -> Learning:
        """What learns the catalog's words; raises UsageError where the server has none."""
        assert self.found
        assert self._learning is not None
        return self._learning

    def words(self, view: CatalogView | None) -> list[str]:
        """The model's genres as people spell them, then the words that they use most beside them."""
        learned = self.learning.bundle if view else None
        labels = list(
            {same(label): label for label in (*self.hearing.labels, *(learned.labels if learned else ()))}.values()
        )
        known = {same(label) for label in labels}
        said = view.corrections.values() if view else ()
        own = collections.Counter(word for one in said for word in words_of(one.genre) if same(word) not in known)
        return [shown(label) for label in labels] + [word for word, _ in own.most_common(_OWN_WORDS)]


@functools.lru_cache(maxsize=10_000)
def shown(genre: str | None) -> str:
    """A genre as people spell it: New Age for newage; of several each."""
    return "; ".join(spelled(word) for word in words_of(genre or ""))


def clock(seconds: float | None) -> str:
    """3:05, or 1:02:03."""
    whole = round(seconds or 0)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
