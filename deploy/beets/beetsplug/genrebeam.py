"""beets plugin: fills empty genres by what genrebeam hears, at import and by `beet genrebeam`. See docs/beets.md."""

from __future__ import annotations

import optparse
import os
from collections.abc import Iterable

from beets import ui
from beets.importer import ImportSession, ImportTask
from beets.library import Item, Library
from beets.plugins import BeetsPlugin

from genrebeam.features.errors import GenrebeamError
from genrebeam.pipelines.api import GenreTagger, Heard
from genrebeam.pipelines.tags.policy import DEFAULT_USELESS, TagPolicy, is_useless, spelled


class GenrebeamPlugin(BeetsPlugin):
    """Hears a batch of items at a time, so that the network is loaded once and memory stays bounded."""

    def __init__(self) -> None:
        super().__init__()
        apply = {"min_confidence": TagPolicy.min_confidence, "max_unknown": TagPolicy.max_unknown}
        self.config.add({"auto": True, **apply, "model": "", "batch": 32})
        self._tagger: GenreTagger | None = None
        if self.config["auto"].get(bool):
            self.import_stages = [self._imported]
        self.register_listener("cli_exit", self._close)

    def commands(self) -> list[ui.Subcommand]:
        command = ui.Subcommand("genrebeam", help="hear the genre of items that have none")
        command.parser.add_option(
            "-f", "--force", action="store_true", help="replace the genres of items that have some"
        )
        command.parser.add_option(
            "-p", "--pretend", action="store_true", help="say what would be stored, store nothing"
        )
        command.func = self._command
        return [command]

    def _imported(self, session: ImportSession, task: ImportTask) -> None:
        # beets writes the files itself after this stage, where it would write them without this plugin.
        self._fill(task.imported_items(), write=False)

    def _command(self, lib: Library, options: optparse.Values, args: list[str]) -> None:
        self._fill(lib.items(args), write=ui.should_write(), force=options.force, pretend=options.pretend)

    def _fill(self, items: Iterable[Item], *, write: bool, force: bool = False, pretend: bool = False) -> None:
        wanted = [item for item in items if force or all(is_useless(one, DEFAULT_USELESS) for one in item.genres)]
        size = max(1, self.config["batch"].get(int))
        for start in range(0, len(wanted), size):
            batch = wanted[start : start + size]
            try:
                answers = self._open().hear([os.fsdecode(item.path) for item in batch])
            except GenrebeamError as error:  # no bundle, or one that cannot be used: an import must not end by it
                self._log.error("{}", error)
                return
            for item, heard in zip(batch, answers, strict=True):
                self._store(item, heard, write=write, pretend=pretend)

    def _store(self, item: Item, heard: Heard | GenrebeamError, *, write: bool, pretend: bool) -> None:
        if not isinstance(heard, Heard):
            self._log.warning("not heard: {}", heard)
        elif (
            heard.confidence < self.config["min_confidence"].as_number()
            or (heard.unknown or 0.0) > self.config["max_unknown"].as_number()
        ):
            self._log.info("unsure, left alone: {} ({} {:.0%})", item, heard.genre, heard.confidence)
        else:
            genre = spelled(heard.genre)
            self._log.info("{}: {} {:.0%}", item, genre, heard.confidence)
            if pretend:
                ui.print_(f"{item}: {genre}")
                return
            item.genres = [genre]
            item.store()
            if write:
                item.try_write()

    def _open(self) -> GenreTagger:
        if self._tagger is None:
            self._tagger = GenreTagger(self.config["model"].as_str() or None)
        return self._tagger

    def _close(self, lib: Library | None = None) -> None:
        if self._tagger is not None:
            self._tagger.close()
            self._tagger = None
