"""What there is to tag: folders, globs and manifests, local or remote, as tracks with a stable identity.

Every file found becomes a track or a rejection; nothing vanishes without a row. This module decides what kind of
library the user named; walk.py, manifest.py and remote.py list files, found.py judges each.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from genrebeam.features.errors import UsageError
from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.library.found import judge, keepable, track_of
from genrebeam.pipelines.library.ignore import Ignore
from genrebeam.pipelines.library.manifest import is_manifest, parts_of, read_manifest
from genrebeam.pipelines.library.remote import find_remote
from genrebeam.pipelines.library.walk import expand_glob, walk
from genrebeam.pipelines.storage.places import local_path, must_be_named, path_uri


@dataclasses.dataclass(frozen=True)
class Discovery:
    """What was found: tracks in the order of their ids, and what was turned down without being opened."""

    tracks: tuple[Track, ...]
    rejections: tuple[Rejection, ...]


def roots_of(libraries: Sequence[str]) -> set[str]:
    """The folders and URLs whose files are all found: uri and a slash, before the track_id. Others list a part."""
    roots = set()
    for library in libraries:
        path = local_path(library)
        if path is None:
            roots.add(library.rstrip("/") + "/")
        elif path.expanduser().is_dir() and not (is_manifest(library) and parts_of(path.expanduser())):
            root = os.path.join(path.expanduser().absolute(), "")
            roots |= {path_uri(root).rstrip("/") + "/", "file://" + urllib.parse.quote(os.fsencode(root))}
    return roots


def discover(
    libraries: Sequence[str],
    *,
    leave_out: Iterable[Path] = (),
    beam_flags: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Discovery:
    """All that `find_all` finds, where it fits into memory; arguments and errors as there."""
    found = list(find_all(libraries, leave_out=leave_out, beam_flags=beam_flags, exclude=exclude))
    tracks = [one for one in found if isinstance(one, Track)]
    rejections = [one for one in found if isinstance(one, Rejection)]
    return Discovery(
        tuple(sorted(tracks, key=lambda one: one.track_id)),
        tuple(sorted(rejections, key=lambda one: one.track.track_id)),
    )


def find_all(
    libraries: Sequence[str],
    *,
    leave_out: Iterable[Path] = (),
    beam_flags: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Iterator[Track | Rejection]:
    """Everything in the given folders, globs, manifests and single files, one after the other and none twice.

    Args:
        libraries: as typed by the user.
        leave_out: folders not to look into, such as the output folder.
        beam_flags: options of Beam's FileSystems.
        exclude: patterns as `.gitignore` has them, of files and folders to pass over; files that are named themselves,
            or by a manifest, are taken all the same.

    Raises:
        UsageError: a library that does not exist, cannot be read, or shares a track_id with another;
            an invalid pattern.
    """
    ignore = Ignore(exclude)
    skip = {os.path.realpath(folder) for folder in leave_out}

    def all_of_them() -> Iterator[Track | Rejection]:
        for library in libraries:
            yield from map(keepable, _find(library, skip, beam_flags, ignore))

    if len(libraries) == 1 and not is_manifest(libraries[0]):
        yield from all_of_them()  # names in one folder are unique
        return
    known = 0
    uris: dict[int, int] = {}  # of a track_id the uri, both as hashes: a hundred bytes for each track
    for found in all_of_them():
        track = track_of(found)
        uri = uris.setdefault(hash(track.track_id), new := hash(track.uri))
        if uri != new:
            other = next(one for one in map(track_of, all_of_them()) if one.track_id == track.track_id)
            raise UsageError(
                f"{track.uri} and {other.uri} are both the track {track.track_id!r} of their library: "
                "tag the folder above both, or use one output folder for each"
            )
        if len(uris) > known:
            known = len(uris)
            yield found


def _find(library: str, skip: set[str], beam_flags: Sequence[str], ignore: Ignore) -> Iterator[Track | Rejection]:
    must_be_named(library, "library")
    if "://" in library and not library.startswith("file://"):
        yield from find_remote(library, beam_flags, ignore)
        return
    path = local_path(library)
    assert path is not None
    path = path.expanduser()
    if is_manifest(library) and (parts := parts_of(path)):
        for part in parts:
            yield from read_manifest(part, beam_flags)
    elif path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            raise UsageError(f"{path}: this folder may not be read; check its permissions")
        yield from walk(path.absolute(), skip, ignore)
    elif os.path.lexists(path):
        yield judge(path.absolute(), path.name)
    elif glob.has_magic(str(path)):
        yield from expand_glob(path, skip, ignore)
    else:
        raise UsageError(f"{library}: no such library; give a folder, a glob, a manifest or an audio file")
