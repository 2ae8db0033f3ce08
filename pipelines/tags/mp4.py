"""MP4 and M4A: the `ilst` atom as a list of raw atoms, and the offset tables that have to follow when it grows.

ISO/IEC 14496-12 for the boxes; the item list is Apple's (QuickTime File Format, "Metadata").
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipelines.tags.model import GENRE, Container, Field, Source, Splice, Tag

_MEAN = "com.apple.iTunes"
_UTF8 = 1
# Boxes with absolute positions that are not followed here; such files are left alone where anything would move.
# (tfhd has one only where its flags say so.)
_UNFOLLOWED = {b"tfra", b"iloc", b"saio", b"tfhd"}
_BASE_DATA_OFFSET = 1
_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"moof", b"traf", b"mfra"}
_HDLR = b"\x00\x00\x00\x21hdlr" + bytes(8) + b"mdirappl" + bytes(9)


@dataclasses.dataclass(frozen=True)
class Ilst(Tag):
    """An item list; its slack is the content of the `free` atom right behind it (-1: there is none)."""

    genre_keys: ClassVar[frozenset[str]] = frozenset({"\xa9gen", "gnre"})
    provenance_prefix: ClassVar[str] = f"----:{_MEAN}:GENREBEAM_".upper()
    padded: ClassVar[bool] = True
    overhead: ClassVar[int] = 8

    @property
    def dialect(self) -> str:
        return "mp4"

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        if not values:
            return ()
        data = b"".join(_atom(b"data", struct.pack(">II", _UTF8, 0) + value.encode("utf-8")) for value in values)
        if name == GENRE:
            return (Field("\xa9gen", _atom(b"\xa9gen", data)),)
        mean, label = (_atom(kind, bytes(4) + text.encode()) for kind, text in ((b"mean", _MEAN), (b"name", name)))
        return (Field(f"----:{_MEAN}:{name}", _atom(b"----", mean + label + data)),)

    def render(self) -> bytes:
        return b"".join(field.raw for field in self.fields)


@dataclasses.dataclass(frozen=True)
class _Atom:
    name: bytes
    start: int
    body: int
    stop: int

    @property
    def size_field(self) -> tuple[int, int]:
        """Where its size stands: the first 4 bytes, or 8 bytes behind the name."""
        return (self.start, self.start + 4) if self.body - self.start == 8 else (self.start + 8, self.start + 16)


class Mp4(Container):
    """moov.udta.meta.ilst, made where any of them is missing."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._top = list(_atoms(source, 0, source.size))
        moov = next((atom for atom in self._top if atom.name == b"moov"), None)
        if moov is None:
            raise source.broken("it has no moov atom")
        udta = _child(source, moov, b"udta")
        meta = udta and _child(source, udta, b"meta")
        self._parents = [atom for atom in (moov, udta, meta) if atom]
        self._wrappers = [name for name, atom in ((b"udta", udta), (b"meta", meta)) if not atom]
        end = self._parents[-1].stop
        self._where = (end, end)
        self.tags = (Ilst(exists=False, slack=-1),)
        if udta and meta:
            self._find_list(udta, meta)
        tables = [a for a in _descend(source, self._top) if a.name in (b"stco", b"co64")]
        self._offsets = [(table, _table(source, table)) for table in tables]
        self._unfollowed = [atom.name for atom in _descend(source, self._top) if _is_unfollowed(source, atom)]
        sizes = [parent.size_field for parent in self._parents]
        self.holes = tuple(sorted([*sizes, self._where, *((table.body + 8, table.stop) for table in tables)]))

    def _find_list(self, udta: _Atom, meta: _Atom) -> None:
        """The item list with the free atom behind it, and the wrappers around it where they hold nothing else."""
        source = self._source
        children = list(_atoms(source, _meta_body(source, meta), meta.stop))
        index = next((i for i, atom in enumerate(children) if atom.name == b"ilst"), None)
        if index is None:
            return
        ilst, following = children[index], children[index + 1 : index + 2]
        free = next((atom for atom in following if atom.name == b"free" and atom.body == atom.start + 8), None)
        stop = free.stop if free else ilst.stop
        self.tags = (Ilst(_fields(source, ilst), slack=free.stop - free.body if free else -1),)
        self._where = (ilst.start, stop)
        if source.read(meta.start + 8, ilst.start) == bytes(4) + _HDLR and stop == meta.stop:
            self._where, self._wrappers = (meta.start, meta.stop), [b"meta"]
            self._parents.remove(meta)
            if udta.start + 8 == meta.start and udta.stop == meta.stop:
                self._where, self._wrappers = (udta.start, udta.stop), [b"udta", b"meta"]
                self._parents.remove(udta)

    def splices(self, tags: Sequence[Tag]) -> list[Splice]:
        (tag,) = tags
        data = self._list_atom(tag)
        start, stop = self._where
        growth = len(data) - (stop - start)
        result = [Splice(start, stop, data)]
        if growth:
            result += self._grown_parents(growth) + self._moved_offsets(stop, growth)
        return sorted(result, key=lambda splice: splice.start)

    def _list_atom(self, tag: Tag) -> bytes:
        if not tag.exists:
            return b""
        data = _atom(b"ilst", tag.render())
        if tag.slack >= 0:
            data += _atom(b"free", bytes(tag.slack))
        if b"meta" in self._wrappers:
            data = _atom(b"meta", bytes(4) + _HDLR + data)
        if b"udta" in self._wrappers:
            data = _atom(b"udta", data)
        return data

    def _grown_parents(self, growth: int) -> list[Splice]:
        result = []
        for atom in self._parents:
            size = atom.stop - atom.start + growth
            start, stop = atom.size_field
            if size >= 1 << 8 * (stop - start):
                raise self._source.broken("its moov atom would outgrow its size field")
            if self._source.read(start, stop) != bytes(stop - start):  # 0: "to the end of the file"
                result.append(Splice(start, stop, size.to_bytes(stop - start, "big")))
        return result

    def _moved_offsets(self, stop: int, growth: int) -> list[Splice]:
        """Chunk offsets behind the change move with it."""
        if self._unfollowed and any(atom.start >= stop for atom in self._top):
            boxes = ", ".join(sorted({name.decode() for name in self._unfollowed}))
            raise self._source.broken(f"its tag has no room left, and moving the audio would invalidate {boxes}")
        names = {atom.name for atom in self._top if atom.start >= stop}
        if b"mdat" in names and not self._offsets and b"moof" not in names:  # a compressed moov, perhaps
            raise self._source.broken("its tag has no room left, and where its audio is entered cannot be told")
        result = []
        for table, offsets in self._offsets:
            moved = np.where(offsets >= stop, offsets + growth, offsets)
            if (moved != offsets).any():
                dtype = ">u4" if table.name == b"stco" else ">u8"
                if moved.max() >= 1 << 8 * np.dtype(dtype).itemsize:
                    raise self._source.broken("its audio would lie beyond what its 32-bit offsets reach")
                result.append(Splice(table.body + 8, table.stop, moved.astype(dtype).tobytes()))
        return result

    def check_moved(self, new: Container) -> None:
        """Every chunk offset points at the byte it pointed at before."""
        assert isinstance(new, Mp4)
        if len(self._offsets) != len(new._offsets):
            raise new._source.broken("it lost an offset table")
        for (_, old_offsets), (_, offsets) in zip(self._offsets, new._offsets, strict=True):
            if len(old_offsets) != len(offsets):
                raise new._source.broken("an offset table changed its length")
            growth = new._source.size - self._source.size  # sizes and tables keep their lengths: one step is all
            expected = old_offsets + np.where(old_offsets >= self._where[1], growth, 0)
            probes = range(0, len(offsets), max(1, len(offsets) // 64))
            if not np.array_equal(offsets, expected) or any(
                self._source.peek(int(old_offsets[i]), int(old_offsets[i]) + 64)
                != new._source.peek(int(offsets[i]), int(offsets[i]) + 64)
                for i in probes
                if not self._in_moov(int(old_offsets[i]))
            ):
                raise new._source.broken("an offset table does not point at the audio any more")

    def _in_moov(self, offset: int) -> bool:
        return self._parents[0].start <= offset < self._parents[0].stop


def _atom(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + name + data


def _atoms(source: Source, start: int, stop: int) -> Iterator[_Atom]:
    """The atoms in [start, stop). Fewer than 8 bytes at the end (the 32-bit terminator of udta) are no atom."""
    while start + 8 <= stop:
        header = source.read(start, min(start + 16, stop))
        size, name = struct.unpack_from(">I4s", header)
        body = start + 8
        if size == 1 and len(header) == 16:
            (size,) = struct.unpack_from(">Q", header, 8)
            body = start + 16
        elif size == 0:
            if name == bytes(4):  # zeros: a terminator with padding behind it
                return
            size = stop - start
        if start + size < body or start + size > stop:
            raise source.broken(f"its atom {name!r} at byte {start} has an impossible size")
        yield _Atom(name, start, body, start + size)
        start += size


def _descend(source: Source, atoms: Sequence[_Atom]) -> Iterator[_Atom]:
    """Every atom in these and in the plain containers among them, depth first."""
    for atom in atoms:
        yield atom
        if atom.name in _CONTAINERS:
            yield from _descend(source, list(_atoms(source, atom.body, atom.stop)))


def _is_unfollowed(source: Source, atom: _Atom) -> bool:
    if atom.name == b"tfhd":
        return bool(source.read(atom.body, atom.body + 4)[3] & _BASE_DATA_OFFSET)
    return atom.name in _UNFOLLOWED


def _child(source: Source, parent: _Atom, name: bytes) -> _Atom | None:
    return next((atom for atom in _atoms(source, parent.body, parent.stop) if atom.name == name), None)


def _meta_body(source: Source, meta: _Atom) -> int:
    """`meta` is a full box (4 bytes of version and flags) in MP4 and a plain atom in QuickTime."""
    return meta.body if source.peek(meta.body + 4, meta.body + 8) == b"hdlr" else meta.body + 4


def _fields(source: Source, ilst: _Atom) -> tuple[Field, ...]:
    fields = []
    for atom in _atoms(source, ilst.body, ilst.stop):
        raw = source.read(atom.start, atom.stop)
        key = atom.name.decode("latin-1")
        if atom.name == b"----":
            parts = {a.name: source.read(a.body, a.stop) for a in _atoms(source, atom.body, atom.stop)}
            mean, name = (parts.get(part, b"")[4:].decode("utf-8", "replace") for part in (b"mean", b"name"))
            key = f"----:{mean}:{name}"
        fields.append(Field(key, raw))
    if sum(len(field.raw) for field in fields) != ilst.stop - ilst.body:
        raise source.broken("its ilst atom holds bytes that belong to no item")
    return tuple(fields)


def _table(source: Source, table: _Atom) -> NDArray[np.int64]:
    data = source.read(table.body, table.stop)
    (count,) = struct.unpack_from(">I", data, 4)
    dtype = np.dtype(">u4" if table.name == b"stco" else ">u8")
    if len(data) != 8 + count * dtype.itemsize:
        raise source.broken(f"its {table.name.decode()} table says {count} entries and has another size")
    return np.frombuffer(data, dtype, offset=8).astype(np.int64)
