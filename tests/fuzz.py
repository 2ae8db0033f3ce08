"""Damaged tag files through fill, merge, overwrite and undo: `make torture`, or python tests/fuzz.py [--mutants 500].

Files of every container and family are synthesised (and taken from folders, --samples), damaged at random, tagged and
untagged. Readers that had no part in it (mutagen, FFmpeg, TagLib) are asked before and after: a file that was changed
has the same sound and all its fields, no reader shows another genre than the new one, and undo gives every byte back;
a file that was refused is as it was, for a reason that is its own. A mutant depends on the seed and its number alone.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import families  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import tagfiles  # noqa: E402

from genrebeam.features.child import Child  # noqa: E402
from genrebeam.features.errors import TrackError  # noqa: E402
from genrebeam.pipelines.tags.words import keys  # noqa: E402

POLICIES = ("fill", "merge", "overwrite")
# Reasons that are the file's own. Another one is a fault of ours.
OWN_REASONS = {"BrokenTag", "NotTaggable", "ReadersDisagree"}
_BATCH = 50
_EDGE_BYTES = 6000  # most damage is done this near to an end, where tags are
_LARGEST_SAMPLE = 1 << 20


def samples(folder: Path, more: Sequence[Path] = ()) -> list[list[Path]]:
    """Files to start from: synthesised ones of every container and family, and those of other folders."""
    folder.mkdir()
    made = []
    for kind in tagfiles.MAKERS:
        path = tagfiles.make(folder, kind, f"full-{kind}")
        tagfiles.fill(path, kind, "Rock")
        made.append(path)
    made += [families.make(folder, name) for name in families.FAMILIES]
    groups = [made]
    for place in more:
        found = (path for path in sorted(place.rglob("*")) if path.is_file() and path.suffix not in (".txt", ".md"))
        groups.append([path for path in found if path.stat().st_size <= _LARGEST_SAMPLE])
    return groups


def mutant(data: bytes, rng: random.Random) -> bytes:
    """One to three kinds of damage, mostly where tags are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if len(changed) > 16:
            rng.choice(_DAMAGE)(changed, rng)
    return bytes(changed)


def _place(data: bytearray, rng: random.Random) -> int:
    edge = min(_EDGE_BYTES, len(data))
    where = rng.random()
    if where < 0.45:
        return rng.randrange(edge)
    return len(data) - 1 - rng.randrange(edge) if where < 0.9 else rng.randrange(len(data))


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _cut(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    stop = len(data) if rng.random() < 0.5 else at + rng.choice((1, 4, 10, 128, 5000))
    del data[at:stop]


def _zeros(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    count = min(rng.choice((1, 2, 4, 30, 400)), len(data) - at)
    data[at : at + count] = bytes(count)


def _block(data: bytearray, rng: random.Random) -> None:
    """A stretch again, at its own place or elsewhere."""
    at, count = _place(data, rng), rng.choice((4, 10, 32, 128, 1000))
    block = data[at : at + count]
    to = rng.choice((at, at + count, _place(data, rng)))
    if rng.random() < 0.5:
        data[to:to] = block
    else:
        data[to : to + len(block)] = block


def _number(data: bytearray, rng: random.Random) -> None:
    """What may be a size (behind a name of four letters, or anywhere) is off by something."""
    names = [i for i in range(min(len(data) - 8, _EDGE_BYTES)) if data[i : i + 4].isalnum()]
    names += [i for i in range(max(0, len(data) - _EDGE_BYTES), len(data) - 8) if data[i : i + 4].isalnum()]
    at = rng.choice(names) + rng.choice((-4, 4)) if names and rng.random() < 0.8 else _place(data, rng)
    at = min(max(at, 0), len(data) - 4)
    order = rng.choice(("big", "little"))
    by = rng.choice((-128, -32, -10, -4, -1, 1, 2, 4, 10, 32, 128, 1 << 14, 1 << 31))
    number = (int.from_bytes(data[at : at + 4], order) + by) % (1 << 32)  # type: ignore[arg-type]
    data[at : at + 4] = number.to_bytes(4, order)  # type: ignore[arg-type]


_DAMAGE: tuple[Callable[[bytearray, random.Random], None], ...] = (_flip, _flip, _cut, _zeros, _block, _number, _number)


# What readers show, in a child process: TagLib and FFmpeg may crash on what they are given here.


def reading() -> Callable[[str], Iterator[Any]]:
    """The child's work: a path to {reader: {field: value}} and a digest of all packets."""
    return lambda path: iter([{"FFmpeg": _ffmpeg(path), "mutagen": _mutagen(path), "TagLib": _taglib(path)}])


def _ffmpeg(path: str) -> dict[str, str]:
    import av
    import av.logging

    av.logging.set_level(av.logging.PANIC)
    shown: dict[str, str] = {}
    digest, count, held = hashlib.sha256(), 0, None
    try:
        with av.open(path, metadata_errors="replace", options={"protocol_whitelist": "file"}) as container:
            shown |= {key.lower(): value for key, value in container.metadata.items()}
            for stream in container.streams:
                shown |= {f"stream {stream.index}/{key.lower()}": value for key, value in stream.metadata.items()}
            is_ape = container.format.name == "ape"
            for packet in container.demux():
                if packet.size:
                    if held:
                        digest.update(b"%d %d " % (held.stream_index, held.size) + bytes(held))
                    held, count = packet, count + 1
            if held and not is_ape:  # FFmpeg takes the tags behind Monkey's Audio, and ID3v1 behind FLAC, for sound
                tail = Path(path).read_bytes()[-128:]
                digest.update(bytes(held).removesuffix(tail if tail.startswith(b"TAG") else b""))
    except Exception as error:
        shown["error"] = type(error).__name__
    if Path(path).read_bytes()[-131:-123] == b"APETAGEX":
        shown = {}  # FFmpeg takes the middle of that word for an ID3v1 tag and shows binary data as fields
    if count:
        shown["sound"] = digest.hexdigest()
    return shown


def _mutagen(path: str) -> dict[str, str]:
    import mutagen

    try:
        file = mutagen.File(path)
        tags = {} if file is None or file.tags is None else file.tags
        shown: dict[str, str] = {}
        for key, value in tags if isinstance(tags, list) else tags.items():
            text = value.pprint() if hasattr(value, "pprint") else repr(value)
            shown[str(key)] = shown.get(str(key), "") + text[:2000]
        return shown
    except Exception:
        return {}


def _taglib(path: str) -> dict[str, str]:
    try:
        import taglib
    except ImportError:  # PyPI's pytaglib; no part of genrebeam's requirements
        return {}
    try:
        with taglib.File(path) as file:
            return {key: "\0".join(values) for key, values in file.tags.items()}
    except Exception:
        return {}


_GENRES = ("genre", "tcon", "tco", "\xa9gen", "gnre", "wm/genre", "wm/genreid", "ignr", "com.apple.quicktime.genre")


def _is_ours(key: str) -> bool:
    if key.startswith("\0"):  # the number of a metadata key, which FFmpeg shows by its name
        return True
    name = key.lower().rpartition("/")[2] if not key.lower().startswith("wm/") else key.lower()
    return "genrebeam_" in name or name in _GENRES or name.rpartition(":")[2] == "genre" or name == "error"


def lost(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]) -> Iterator[str]:
    """What readers showed and do not show any more; the genre is not meant."""
    for reader, old in before.items():
        for key, value in old.items():
            if not _is_ours(key) and after[reader].get(key) != value:
                yield f"{reader}: {key.strip()!r:.40} {'differs' if key in after[reader] else 'is lost'}"


def _shown_genres(shown: dict[str, dict[str, str]]) -> Iterator[str]:
    """As FFmpeg and TagLib make them of a file: a value with a zero byte in it is another for each."""
    for reader in ("FFmpeg", "TagLib"):
        for key, value in shown.get(reader, {}).items():
            if key.lower().rpartition("/")[2] == "genre":
                yield from value.split("\0")


def stale(after: dict[str, dict[str, str]], meant: Sequence[str]) -> Iterator[str]:
    """What readers show as genre and is none of the meant ones."""
    known = {key for genre in meant for key in keys(genre)}
    for text in _shown_genres(after):
        for part in text.split(";"):
            if not keys(part) <= known:
                yield f"a reader shows the genre {part.strip()!r:.60}"


class Fuzz:
    """Mutants through all policies, and what went wrong with them. `keep` takes those, to be looked at."""

    def __init__(self, seed: int, sources: Sequence[Sequence[Path]], keep: Path | None = None) -> None:
        self._seed, self._sources, self._keep = seed, sources, keep
        self._readers = Child("fuzz:reading", {}, stall_s=30, memory_bytes=8 << 30)
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), _BATCH):
            with tempfile.TemporaryDirectory() as folder:
                self._batch(numbers[start : start + _BATCH], Path(folder))
        self._readers.close()

    def _batch(self, numbers: Sequence[int], folder: Path) -> None:
        music = folder / "music"
        music.mkdir()
        mutants: dict[Path, bytes] = {}
        for number in numbers:
            rng = random.Random(f"{self._seed}-{number}")
            source = rng.choice(rng.choice(self._sources))
            path = music / f"{number:06d}-{source.name}"
            path.write_bytes(mutant(source.read_bytes(), rng))
            mutants[path] = path.read_bytes()
        before = {path: self._shown(path) for path in mutants}
        for policy in POLICIES:
            output = folder / policy
            tagfiles.results(output, {path: [("blues", 0.9)] for path in mutants}, root=music)
            genres = {path: _genres(path) for path in mutants}
            tagfiles.apply_all(output, policy=policy)
            for path, (name, message) in self._rejects(output).items():
                self.counts[name] += 1
                if name not in OWN_REASONS or "report" in message:
                    self._fail(path, mutants[path], policy, f"{name}: {message.rpartition(': ')[2]:.150}")
            changed = [path for path, data in mutants.items() if path.read_bytes() != data]
            self.counts["changed"] += len(changed)
            for path in changed:
                after = self._shown(path)
                meant = ["Blues"]
                if policy == "merge":
                    meant += [*genres[path], *_shown_genres(before[path])]
                if before[path] and after:
                    for what in (*lost(before[path], after), *stale(after, meant)):
                        self._fail(path, mutants[path], policy, what)
            tagfiles.apply_all(output, undo=True)
            for path, (name, message) in self._rejects(output, "undo").items():
                self._fail(path, mutants[path], policy, f"undo: {name}: {message.rpartition(': ')[2]:.150}")
            for path, data in mutants.items():
                if path.read_bytes() != data:
                    self._fail(path, data, policy, "undo does not give back every byte")
                    path.write_bytes(data)
        self.counts["mutants"] += len(mutants)

    def _shown(self, path: Path) -> dict[str, dict[str, str]]:
        try:
            answer: dict[str, dict[str, str]] = self._readers.ask(str(path))[1]
            return answer
        except TrackError as error:
            self.counts[f"readers: {type(error).__name__}"] += 1
            return {}

    def _rejects(self, output: Path, what: str = "apply") -> dict[Path, tuple[str, str]]:
        """Rows of the newest run; `undo` runs second."""
        found = {}
        for file in (output / "rejects").glob("*.parquet"):
            for row in pq.read_table(file).to_pylist():
                found[Path(row["uri"])] = row["error"], row["message"]
            file.unlink()
        return found

    def _fail(self, path: Path, data: bytes, policy: str, what: str) -> None:
        self.failures.append(f"{path.name} {policy}: {what}")
        print(f"FAILED {self.failures[-1]}", flush=True)
        if self._keep:
            self._keep.mkdir(parents=True, exist_ok=True)
            (self._keep / path.name).write_bytes(data)


def _genres(path: Path) -> tuple[str, ...]:
    from genrebeam.pipelines.tags.read import read_genres

    return read_genres(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", type=int, action="append", help="the number of a mutant, to try it again")
    parser.add_argument("--samples", type=Path, action="append", default=[], help="a folder of further files")
    parser.add_argument("--keep", type=Path, help="a folder for the mutants with which something is wrong")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    for place in [place for place in arguments.samples if not place.is_dir()]:
        print(f"{place} is absent: its files are NOT tried", flush=True)
    folder = Path(tempfile.mkdtemp())
    try:
        sources = samples(folder / "samples", [place for place in arguments.samples if place.is_dir()])
        fuzz = Fuzz(arguments.seed, sources, arguments.keep)
        fuzz.run(arguments.only or range(arguments.mutants))
    finally:
        shutil.rmtree(folder)
    print(
        f"{sum(map(len, sources))} samples; "
        + ", ".join(f"{count} {name}" for name, count in fuzz.counts.most_common())
    )
    if fuzz.failures:
        sys.exit(f"{len(fuzz.failures)} things are wrong")


if __name__ == "__main__":
    main()
