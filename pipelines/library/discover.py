"""What there is to tag: folders, globs and manifests, local or remote, as tracks with a stable identity.

Every file found becomes a track or a rejection; nothing vanishes without a row. Local trees are walked
directly (a million entries in seconds, and dangling links, loops and odd names are seen for what they
are), buckets are listed by pipelines/storage/objects.py, and other schemes go through Beam's FileSystems.
"""

from __future__ import annotations

import csv
import dataclasses
import fnmatch
import glob
import itertools
import os
import posixpath
import re
import stat
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from genrebeam.features.errors import NotAudio, UnreadableFile, UsageError
from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.dataset.schema import storable
from genrebeam.pipelines.storage import objects
from genrebeam.pipelines.storage.places import local_path, must_be_named, path_uri

MANIFEST_SUFFIXES = (".txt", ".csv", ".parquet", ".m3u", ".m3u8")

# Files that lie beside music. They are rejected by name without being opened; whatever has another
# suffix, or none, is opened and judged by its content.
_NOT_AUDIO_SUFFIXES = frozenset(
    """
    .bmp .gif .heic .ico .jfif .jpeg .jpg .png .psd .svg .tif .tiff .webp
    .csv .cue .db .doc .docx .htm .html .ini .json .lnk .log .lrc .m3u .m3u8 .md .md5 .nfo .ods .parquet .pdf
    .pls .plist .rtf .sfv .sha1 .sha256 .sqlite .srt .torrent .tsv .txt .url .xls .xlsx .xml .xspf .yaml .yml
    .7z .bz2 .gz .rar .tar .xz .zip .bat .exe .py .sh
    .als .asd .cdg .kar .mid .midi .pek .reapeaks .rpp .wvc
    """.split()
)
# A name that claims to be audio; what has another one and no audio in it is a companion too, and no failure.
_AUDIO_SUFFIXES = frozenset(
    """
    .3g2 .3gp .aac .ac3 .adts .aif .aifc .aiff .alac .amr .ape .asf .au .bwf .caf .dff .dsf .dts .eac3 .f4a .fla .flac
    .m4a .m4b .m4p .m4r .mka .mp+ .mp1 .mp2 .mp3 .mp4 .mpc .mpga .mpp .oga .ogg .ofr .ofs .opus .ra .rf64 .rm .shn
    .snd .spx .tak .tta .voc .w64 .wav .wave .weba .webm .wma .wv
    """.split()
)
# What systems leave behind; neither music nor anything its owner knows of. Other names with a leading dot are
# looked at: there are folders called ".38 Special".
_JUNK_NAMES = (
    "._*|.DS_Store|.Trash*|.git|.genrebeam-*|.AppleDouble|.Spotlight-V100|.fseventsd|@eaDir|$RECYCLE.BIN|"
    "System Volume Information|lost+found|Thumbs.db|desktop.ini"
).split("|")
_is_junk = re.compile("|".join(map(fnmatch.translate, _JUNK_NAMES))).match  # one match: it is asked for every file


_LIMIT_NS = 2**63  # times are kept in nanoseconds of 64 bits: from 1678 to 2262


@dataclasses.dataclass(frozen=True)
class Discovery:
    """What was found: tracks in the order of their ids, and what was turned down without being opened."""

    tracks: tuple[Track, ...]
    rejections: tuple[Rejection, ...]


def is_manifest(library: str) -> bool:
    """Whether this is a list of tracks that lies here: the driver reads it, workers have to reach its tracks only."""
    return library.lower().endswith(MANIFEST_SUFFIXES) and local_path(library) is not None


def discover(libraries: Sequence[str], *, leave_out: Iterable[Path] = (), beam_flags: Sequence[str] = ()) -> Discovery:
    """All that `find_all` finds, where it fits into memory; arguments and errors as there."""
    found = list(find_all(libraries, leave_out=leave_out, beam_flags=beam_flags))
    tracks = [one for one in found if isinstance(one, Track)]
    rejections = [one for one in found if isinstance(one, Rejection)]
    return Discovery(
        tuple(sorted(tracks, key=lambda one: one.track_id)),
        tuple(sorted(rejections, key=lambda one: one.track.track_id)),
    )


def find_all(
    libraries: Sequence[str], *, leave_out: Iterable[Path] = (), beam_flags: Sequence[str] = ()
) -> Iterator[Track | Rejection]:
    """Everything in the given folders, globs, manifests and single files, one after the other and none twice.

    Args:
        libraries: as typed by the user.
        leave_out: folders not to look into, such as the output folder.
        beam_flags: options of Beam's FileSystems.

    Raises:
        UsageError: a library that does not exist, cannot be read, or shares a track_id with another.
    """
    skip = {os.path.realpath(folder) for folder in leave_out}

    def all_of_them() -> Iterator[Track | Rejection]:
        for library in libraries:
            yield from map(_keepable, _find(library, skip, beam_flags))

    if len(libraries) == 1 and not is_manifest(libraries[0]):
        yield from all_of_them()  # a folder has no name twice
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


def track_of(found: Track | Rejection) -> Track:
    """The file that was found, whatever is thought of it."""
    return found.track if isinstance(found, Rejection) else found


def _keepable(found: Track | Rejection) -> Track | Rejection:
    """What can be kept in a row: a track with a strange name, size or time is a rejection, and the others go on."""
    if isinstance(found, Rejection):
        return found
    reason = ""
    if storable(found.uri) != found.uri:
        reason = "no name that can be kept"
    elif not 0 <= found.size < 2**63:
        reason = "a size that no file has"
    elif not abs(found.mtime) < _LIMIT_NS / 1e9:
        reason = "its modification time is none that can be kept; touch it"
    track_id = storable(found.track_id)
    if reason:
        track = Track(storable(found.uri), track_id, 0, 0.0)
        return Rejection(track, "discover", UnreadableFile.__name__, f"{track.uri}: {reason}")
    return found if track_id == found.track_id else dataclasses.replace(found, track_id=track_id)


def is_companion(uri: str, stage: str, error: str) -> bool:
    """Whether a rejected file was none to fail: neither its name nor its content claims that it is audio."""
    if stage == "discover":
        return error == NotAudio.__name__
    claims = PurePosixPath(uri).suffix.lower() in _AUDIO_SUFFIXES
    return stage == "extract" and not claims and error in (NotAudio.__name__, UnreadableFile.__name__)


def _find(library: str, skip: set[str], beam_flags: Sequence[str]) -> Iterator[Track | Rejection]:
    must_be_named(library, "library")
    if "://" in library and not library.startswith("file://"):
        yield from _find_remote(library, beam_flags)
        return
    path = local_path(library)
    assert path is not None
    path = path.expanduser()
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            raise UsageError(f"{path}: this folder may not be read; check its permissions")
        yield from _walk(path.absolute(), skip)
    elif is_manifest(library) and path.is_file():
        yield from _read_manifest(path, beam_flags)
    elif os.path.lexists(path):
        yield _judge(path.absolute(), path.name)
    elif glob.has_magic(str(path)):
        yield from _glob(path, skip)
    else:
        raise UsageError(f"{library}: no such library; give a folder, a glob, a manifest or an audio file")


def _walk(root: Path, skip: set[str]) -> Iterator[Track | Rejection]:
    """Every file below a folder. Links to folders are followed, each real folder once."""
    seen: set[tuple[int, int]] = set()
    folders = [str(root)]
    while folders:
        folder = folders.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen or os.path.realpath(folder) in skip:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            yield _reject(Path(folder), _relative(folder, root), UnreadableFile, error.strerror or str(error))
            continue
        for entry in entries:
            if _is_junk(entry.name):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            if is_folder:
                folders.append(entry.path)
            else:
                yield _judge(Path(entry.path), _relative(entry.path, root))


def _glob(pattern: Path, skip: set[str]) -> Iterator[Track | Rejection]:
    pattern = Path(os.path.abspath(pattern))
    first_magic = next(i for i, part in enumerate(pattern.parts) if glob.has_magic(part))
    root = Path(*pattern.parts[:first_magic])
    matches = sorted(glob.glob(str(pattern), recursive=True))
    for match in matches:
        if not os.path.isdir(match) and not any(os.path.realpath(match).startswith(s + os.sep) for s in skip):
            yield _judge(Path(match), _relative(match, root))
    if not matches:
        raise UsageError(f"{pattern}: nothing matches this glob")


def _judge(path: Path, track_id: str) -> Track | Rejection:
    """A local file as a track, or why it cannot be one; it is not opened."""
    if path.suffix.lower() in _NOT_AUDIO_SUFFIXES:
        return _reject(path, track_id, NotAudio, f"{path.suffix.lower()} files are not audio")
    try:
        status = path.stat()
    except OSError as error:
        reason = "a link to nothing" if path.is_symlink() else (error.strerror or str(error))
        return _reject(path, track_id, UnreadableFile, reason)
    if not stat.S_ISREG(status.st_mode):
        return _reject(path, track_id, UnreadableFile, "not a regular file")
    return Track(path_uri(path), track_id, status.st_size, status.st_mtime_ns // 1000 / 1e6)


def _reject(path: Path, track_id: str, error: type[Exception], reason: str) -> Rejection:
    try:
        status = path.lstat()
        strange = abs(status.st_mtime_ns) >= _LIMIT_NS
        size, mtime = status.st_size, 0.0 if strange else status.st_mtime_ns // 1000 / 1e6
    except OSError:
        size, mtime = 0, 0.0
    uri = path_uri(path)
    return Rejection(Track(uri, track_id, size, mtime), "discover", error.__name__, f"{uri}: {reason}")


def _relative(path: str, root: Path) -> str:
    """The part below the library's root, with forward slashes; percent-encoded where it is not valid UTF-8."""
    text = os.path.relpath(path, root).replace(os.sep, "/")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return urllib.parse.quote(os.fsencode(text))
    return text


def _read_manifest(path: Path, beam_flags: Sequence[str]) -> Iterator[Track | Rejection]:
    """The files a manifest names: text and playlists hold one per line, CSV and Parquet have a column `uri`.

    Relative names start at the manifest's folder. A CSV or Parquet manifest may carry `track_id` too.
    """
    folder = path.absolute().parent
    for uri, track_id in _manifest_rows(path):
        if "://" in uri and not uri.startswith("file://"):
            yield _find_one_remote(uri, track_id or uri.partition("://")[2], beam_flags)
            continue
        try:
            local = _as_people_write_it(uri, folder)
            below = local.is_relative_to(folder)
            name = _relative(str(local), folder) if below else path_uri(local).lstrip("/") or "."
            found = _judge(local, track_id or name)
        except (ValueError, RuntimeError) as error:  # a zero byte, an address that is none, the home of nobody
            name = ascii(uri)[1:-1]
            message = f"{name}: no name of a file ({error})"
            found = Rejection(Track(name, track_id or name, 0, 0.0), "discover", UnreadableFile.__name__, message)
        yield found


def _as_people_write_it(uri: str, folder: Path) -> Path:
    """The file that a line means; blanks at its end and backslashes count as such only where that is what there is."""
    path = local_path(uri.replace("file://localhost/", "file:///", 1))
    assert path is not None
    exact = Path(os.path.abspath(folder / path.expanduser()))
    for text in (str(path).rstrip(), str(path).rstrip().replace("\\", "/")):
        other = Path(os.path.abspath(folder / Path(text).expanduser()))
        if not os.path.lexists(exact) and os.path.lexists(other):
            return other
    return exact


def _manifest_rows(path: Path) -> Iterator[tuple[str, str]]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                columns = pq.read_schema(path).names
                if "uri" not in columns:
                    raise UsageError(f"{path}: a manifest needs a column `uri`; this one has {', '.join(columns)}")
                wanted = [name for name in ("uri", "track_id") if name in columns]
                for batch in pq.ParquetFile(path).iter_batches(columns=wanted):
                    yield from ((row["uri"], row.get("track_id") or "") for row in batch.to_pylist() if row["uri"])
            except (pa.ArrowException, OSError) as error:
                raise UsageError(f"{path}: not a readable Parquet file: {error}") from error
        elif suffix == ".csv":
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                table = csv.DictReader(file)
                names = list(table.fieldnames or ["none"])
                if "uri" not in names:
                    raise UsageError(f"{path}: a manifest needs a column `uri`; this one has {', '.join(names)}")
                yield from ((row["uri"], row.get("track_id") or "") for row in table if row["uri"])
        else:
            playlist = suffix in (".m3u", ".m3u8")
            with path.open("rb") as binary:
                wide = binary.read(2) in (b"\xff\xfe", b"\xfe\xff")
            encoding, errors = ("utf-16", "replace") if wide else ("utf-8-sig", "surrogateescape")
            with path.open(encoding=encoding, errors=errors, newline="\n") as file:
                for line in file:
                    text = line.rstrip("\n").rstrip("\r")
                    if text.strip() and not (playlist and text.startswith("#")):
                        yield text, ""
    except OSError as error:
        raise UsageError(f"{path}: this manifest cannot be read: {error.strerror}") from error


def _find_remote(url: str, beam_flags: Sequence[str]) -> Iterator[Track | Rejection]:
    """Everything below a URL, that URL itself, or what matches it where it is a glob."""
    first_magic = next((i for i, c in enumerate(url) if c in "*?["), len(url))
    root = url.rstrip("/") + "/"
    found: Iterator[tuple[str, int, float]] | None
    if objects.is_object(url):  # the name itself first: it may hold characters that are magic in a glob
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
    for uri, size, mtime in found:
        track_id = uri.removeprefix(root)
        if not any(map(_is_junk, track_id.split("/"))):
            yield _judge_remote(uri, track_id, size, mtime)


def _if_any(found: Iterable[tuple[str, int, float]]) -> Iterator[tuple[str, int, float]] | None:
    """The same, or None where there is none."""
    rest = iter(found)
    first = next(rest, None)
    return itertools.chain([first], rest) if first else None


def _find_one_remote(uri: str, track_id: str, beam_flags: Sequence[str]) -> Track | Rejection:
    """The file that a manifest names."""
    try:
        if objects.is_object(uri):
            seen = objects.stat(uri)
            return _judge_remote(uri, track_id, seen.size, seen.mtime_us / 1e6)
        try:
            ((_, size, mtime),) = _through_beam(glob.escape(uri), beam_flags)
        except UsageError as error:  # one line of a playlist, a radio's address perhaps, must not stop the others
            raise UnreadableFile(f"no file that can be read from here ({error})") from error
        return _judge_remote(uri, track_id, size, mtime)
    except (UnreadableFile, ValueError) as error:
        reason = str(error) if isinstance(error, UnreadableFile) else "no such file"
        return Rejection(Track(uri, track_id, 0, 0.0), "discover", UnreadableFile.__name__, f"{uri}: {reason}")


def _judge_remote(uri: str, track_id: str, size: int, mtime: float) -> Track | Rejection:
    track = Track(uri, track_id, size, mtime)
    suffix = posixpath.splitext(uri)[1].lower()
    if suffix in _NOT_AUDIO_SUFFIXES:
        return Rejection(track, "discover", NotAudio.__name__, f"{uri}: {suffix} files are not audio")
    return track


def _objects(prefix: str) -> Iterator[tuple[str, int, float]]:
    """URL, size and mtime of all objects whose URL begins like this, in their order."""
    return ((found.uri, found.size, found.mtime_us / 1e6) for found in objects.find(prefix))


def _regex(pattern: str) -> str:
    """A glob as a regular expression, with the meaning that the module glob has with recursive=True."""
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|[*?]|\[!?[^]]+\])", pattern)  # every other one is magic
    magic = [meaning.get(part) or part.replace("[!", "[^", 1) for part in parts[1::2]]
    return "".join(re.escape(plain) + special for plain, special in zip(parts[::2], [*magic, ""], strict=True))


def _through_beam(pattern: str, flags: Sequence[str]) -> list[tuple[str, int, float]]:
    """URL, size and mtime of what matches, on any file system that Beam knows."""
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    FileSystems.set_options(PipelineOptions(list(flags)))  # hdfs:// is told by flags where its server is
    try:
        found = FileSystems.match([pattern])[0].metadata_list
    except (BeamIOError, ValueError) as error:
        scheme = pattern.split("://")[0]
        raise UsageError(f"{pattern}: cannot be listed ({error}); is the extra for {scheme}:// installed?") from error
    return sorted((one.path, int(one.size_in_bytes), round(one.last_updated_in_seconds or 0, 6)) for one in found)
