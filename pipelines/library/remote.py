"""Files that are not local: buckets through storage/objects.py, other schemes through Beam's FileSystems."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from genrebeam.features.errors import UnreadableFile, UsageError
from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.library.found import judge_remote
from genrebeam.pipelines.library.ignore import IGNORE_FILE, Ignore
from genrebeam.pipelines.storage import objects
from genrebeam.pipelines.storage.copies import local_copy


def find_remote(url: str, beam_flags: Sequence[str], ignore: Ignore) -> Iterator[Track | Rejection]:
    """Everything below a URL, that URL itself, or what matches it where it is a glob."""
    first_magic = next((i for i, c in enumerate(url) if c in "*?["), len(url))
    root = url.rstrip("/") + "/"
    found: Iterator[tuple[str, int, float]] | None
    if objects.is_object(url):  # the literal name first: it may hold characters that are special in a glob
        if not (found := _if_any(_objects(root))):
            root = url[: url.rindex("/") + 1]
            found = _if_any(one for one in _objects(url) if one[0] == url)
        if not found:
            matches = re.compile(_regex(url)).fullmatch
            root = url[: url.rindex("/", 0, first_magic) + 1]
            found = _if_any(one for one in _objects(url[:first_magic]) if matches(one[0]))
    else:
        found = None if glob.has_magic(url) else _if_any(_through_beam(root + "**", beam_flags))
        if not found:
            root, found = url[: url.rindex("/", 0, first_magic) + 1], _if_any(_through_beam(url, beam_flags))
    if not found:
        raise UsageError(f"{url}: nothing there")
    if objects.is_object(url) and (lines := _ignore_lines(root + IGNORE_FILE)):
        ignore = ignore.within("", lines, root + IGNORE_FILE)
    for uri, size, mtime in found:
        track_id = uri.removeprefix(root)
        if track_id != IGNORE_FILE and not ignore.passes_over(track_id):
            yield judge_remote(uri, track_id, size, mtime)


def _ignore_lines(uri: str) -> str:
    """The text of an ignore file in a bucket, nothing where there is none."""
    try:
        objects.stat(uri)
    except UnreadableFile:
        return ""
    with local_copy(uri) as path:
        return path.read_text(encoding="utf-8-sig", errors="replace")


def _if_any(found: Iterable[tuple[str, int, float]]) -> Iterator[tuple[str, int, float]] | None:
    """The same, or None where there is none."""
    rest = iter(found)
    first = next(rest, None)
    return itertools.chain([first], rest) if first else None


def find_one_remote(uri: str, track_id: str, beam_flags: Sequence[str]) -> Track | Rejection:
    """The file that a manifest names."""
    try:
        if objects.is_object(uri):
            seen = objects.stat(uri)
            return judge_remote(uri, track_id, seen.size, seen.mtime_us / 1e6)
        try:
            ((_, size, mtime),) = _through_beam(glob.escape(uri), beam_flags)
        except UsageError as error:  # one bad line, such as the address of a radio, must not stop the others
            raise UnreadableFile(f"no file that can be read from here ({error})") from error
        return judge_remote(uri, track_id, size, mtime)
    except (UnreadableFile, ValueError) as error:
        reason = str(error) if isinstance(error, UnreadableFile) else "no such file"
        return Rejection(Track(uri, track_id, 0, 0.0), "discover", UnreadableFile.__name__, f"{uri}: {reason}")


def _objects(prefix: str) -> Iterator[tuple[str, int, float]]:
    """URL, size and mtime of all objects whose URL begins like this, in their order."""
    return ((found.uri, found.size, found.mtime_us / 1e6) for found in objects.find(prefix))


def _regex(pattern: str) -> str:
    """A glob as a regular expression, with the meaning that the module glob has with recursive=True."""
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|[*?]|\[!?[^]]+\])", pattern)  # every other part is special
    magic = [meaning.get(part) or part.replace("[!", "[^", 1) for part in parts[1::2]]
    return "".join(re.escape(plain) + special for plain, special in zip(parts[::2], [*magic, ""], strict=True))


def _through_beam(pattern: str, flags: Sequence[str]) -> list[tuple[str, int, float]]:
    """URL, size and mtime of what matches, on any file system that Beam knows."""
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    FileSystems.set_options(PipelineOptions(list(flags)))  # hdfs:// finds its server by flags
    try:
        found = FileSystems.match([pattern])[0].metadata_list
    except (BeamIOError, ValueError) as error:
        scheme = pattern.split("://")[0]
        raise UsageError(f"{pattern}: cannot be listed ({error}); is the extra for {scheme}:// installed?") from error
    return sorted((one.path, int(one.size_in_bytes), round(one.last_updated_in_seconds or 0, 6)) for one in found)
