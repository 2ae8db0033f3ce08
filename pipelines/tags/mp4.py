"""MP4, M4A and QuickTime: the families of tags in `moov`, and the offset tables that have to follow when they grow.

iTunes' item list, metadata keys (`mdta`), and user data of QuickTime and 3GPP. ISO/IEC 14496-12 for the boxes, Apple's
QuickTime File Format ("Metadata", "User Data Text Strings"), 3GPP TS 26.244.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from genrebeam.pipelines.tags.model import GENRE, Container, Field, Source, Splice, Tag

_MEAN = "com.apple.iTunes"
_UTF8 = 1
_SEPARATOR = "; "  # where a family has no form of its own for several values
_FIRST_ISO_LANGUAGE = 0x400  # of QuickTime's texts; below it are the Macintosh's own codes and encodings
_UNDETERMINED = b"\x55\xc4"
# Boxes with absolute positions that are not followed here; such files are left alone where anything would move.
# (tfhd has one only where its flags say so.)
_UNFOLLOWED = {b"tfra", b"iloc", b"saio", b"tfhd"}
_BASE_DATA_OFFSET = 1
_PROBE_BYTES = 64
_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"moof", b"traf", b"mfra"}
_HDLR = b"\x00\x00\x00\x21hdlr" + bytes(8) + b"mdirappl" + bytes(9)


@dataclasses.dataclass(frozen=True)
class Ilst(Tag):
    """An item list; its slack is the content of the `free` atom right behind it (-1: there is none)."""

    genre_keys: ClassVar[frozenset[str]] = frozenset({"\xa9gen", "gnre"})  # and free-form items of that name
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

    def is_genre(self, field: Field) -> bool:
        return super().is_genre(field) or (field.key.startswith("----:") and field.key.lower().endswith(":genre"))

    def render(self) -> bytes:
        return b"".join(field.raw for field in self.fields)


@dataclasses.dataclass(frozen=True)
class Keys(Tag):
    """Metadata keys, and an item list in which numbers stand for them. A field is an entry of `keys` and its item."""

    @property
    def dialect(self) -> str:
        return "mdta"

    def is_genre(self, field: Field) -> bool:
        return field.key.lower() in ("genre", "com.apple.quicktime.genre")

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        if not values:
            return ()
        if name == GENRE:  # FFmpeg shows one value of a key
            name = next((field.key for field in self.fields if self.is_genre(field)), "genre")
            values = [_SEPARATOR.join(values)]
        entry = _atom(b"mdta", name.encode())
        data = b"".join(_atom(b"data", struct.pack(">II", _UTF8, 0) + value.encode()) for value in values)
        return (Field(name, entry + data),)

    def render_keys(self) -> bytes:
        entries = [field.raw[: _entry_bytes(field)] for field in self.fields]
        return _atom(b"keys", struct.pack(">II", 0, len(entries)) + b"".join(entries))

    def render(self) -> bytes:
        items = [_atom(struct.pack(">I", i), f.raw[_entry_bytes(f) :]) for i, f in enumerate(self.fields, 1)]
        return _atom(b"ilst", b"".join(items))

    def words(self) -> dict[str, tuple[str, ...]]:
        words = {}
        for field in self.fields:
            values = _data_texts(field.raw[_entry_bytes(field) :])
            if self.is_genre(field):
                words[GENRE] = tuple(part.strip() for value in values for part in value.split(";"))
            else:
                words[field.key] = values
        return words


def _entry_bytes(field: Field) -> int:
    return int.from_bytes(field.raw[:4], "big")


def _data_texts(data: bytes) -> tuple[str, ...]:
    """The texts of the `data` atoms of an item."""
    texts, at = [], 0
    while at + 16 <= len(data):
        size = max(16, int.from_bytes(data[at : at + 4], "big"))
        if data[at + 11] == _UTF8:
            texts.append(data[at + 16 : at + size].decode("utf-8", "replace"))
        at += size
    return tuple(texts)


@dataclasses.dataclass(frozen=True)
class UserText(Tag):
    """A genre in the user data of QuickTime (`©gen`) or 3GPP (`gnre`): it has to say the same as the others.

    Attributes:
        number: among the genres of the user data.
    """

    number: int = 0

    primary: ClassVar[bool] = False

    @property
    def dialect(self) -> str:
        return f"udta{self.number}"

    def is_genre(self, field: Field) -> bool:
        return True

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        if name != GENRE or not self.fields:
            return ()
        text = _SEPARATOR.join(values)
        raw = self.fields[0].raw
        if raw[4:8] == b"gnre":
            return (Field("gnre", _atom(b"gnre", raw[8:14] + text.encode() + b"\0")),)
        language = raw[10:12] if text.isascii() else _UNDETERMINED
        return (Field("\xa9gen", _atom(b"\xa9gen", struct.pack(">H", len(text.encode())) + language + text.encode())),)

    def render(self) -> bytes:
        return b"".join(field.raw for field in self.fields)

    def words(self) -> dict[str, tuple[str, ...]]:
        texts = []
        for field in self.fields:
            data = field.raw[8:]
            if field.key == "gnre":
                text = data[6:]
                wide = text.startswith((b"\xfe\xff", b"\xff\xfe"))
                texts.append(text.decode("utf-16" if wide else "utf-8", "replace").split("\0")[0])
            while field.key != "gnre" and len(data) >= 4:
                length, language = struct.unpack_from(">HH", data)
                codec = "mac-roman" if language < _FIRST_ISO_LANGUAGE else "utf-8"
                texts.append(data[4 : 4 + length].decode(codec, "replace").strip("\0"))
                data = data[4 + length :]
        return {GENRE: tuple(part.strip() for text in texts for part in text.split(";"))}


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
    """moov.udta.meta.ilst, made where any of them is missing; metadata keys and user data where they are there."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._top = list(_atoms(source, 0, source.size))
        moov = next((atom for atom in self._top if atom.name == b"moov"), None)
        if moov is None:
            raise source.broken("it has no moov atom")
        self._moov = moov
        udta = _child(source, moov, b"udta")
        metas = [(moov, _child(source, moov, b"meta"))]
        if udta:
            metas += [(udta, atom) for atom in _atoms(source, udta.body, udta.stop) if atom.name == b"meta"]
        keyed = [(parent, meta) for parent, meta in metas if meta and _child_of_meta(source, meta, b"keys")]
        meta = next((m for parent, m in metas[1:] if m and (parent, m) not in keyed), None)
        self._parents = [atom for atom in (moov, udta, meta) if atom]
        self._wrappers = [name for name, atom in ((b"udta", udta), (b"meta", meta)) if not atom]
        end = self._parents[-1].stop
        self._where = (end, end)
        tags: list[Tag] = [Ilst(exists=False, slack=-1)]
        if udta and meta:
            tags[0] = self._find_list(udta, meta) or tags[0]
        # Where the other tags stand, and the atoms that grow with them.
        self._others: list[tuple[tuple[tuple[int, int], ...], list[_Atom]]] = []
        for parent, keyed_meta in keyed[:1]:
            assert keyed_meta
            tag, where = _keys(source, keyed_meta)
            tags.append(tag)
            self._others.append((where, [moov, *([parent] if parent is not moov else []), keyed_meta]))
        texts = [a for a in _atoms(source, udta.body, udta.stop) if a.name in (b"\xa9gen", b"gnre")] if udta else []
        for number, atom in enumerate(texts):
            assert udta
            raw = source.read(atom.start, atom.stop)
            tags.append(UserText((Field(atom.name.decode("latin-1"), raw),), number=number))
            self._others.append((((atom.start, atom.stop),), [moov, udta]))
        self.tags = tuple(tags)
        tables = [a for a in _descend(source, self._top) if a.name in (b"stco", b"co64")]
        self._offsets = [(table, _table(source, table)) for table in tables]
        self._unfollowed = [atom.name for atom in _descend(source, self._top) if _is_unfollowed(source, atom)]
        parents = {*self._parents, *(parent for _, above in self._others for parent in above)}
        places = [where for wheres, _ in self._others for where in wheres]
        sizes = [parent.size_field for parent in parents]
        self.holes = tuple(sorted({*sizes, self._where, *places, *((t.body + 8, t.stop) for t in tables)}))

    def _find_list(self, udta: _Atom, meta: _Atom) -> Ilst | None:
        """The item list with the free atom behind it, and the wrappers around it where they hold nothing else."""
        source = self._source
        children = list(_atoms(source, _meta_body(source, meta), meta.stop))
        index = next((i for i, atom in enumerate(children) if atom.name == b"ilst"), None)
        if index is None:
            return None
        ilst, following = children[index], children[index + 1 : index + 2]
        free = next((atom for atom in following if atom.name == b"free" and atom.body == atom.start + 8), None)
        stop = free.stop if free else ilst.stop
        self._where = (ilst.start, stop)
        if source.read(meta.start + 8, ilst.start) == bytes(4) + _HDLR and stop == meta.stop:
            self._where, self._wrappers = (meta.start, meta.stop), [b"meta"]
            self._parents.remove(meta)
            if udta.start + 8 == meta.start and udta.stop == meta.stop:
                self._where, self._wrappers = (udta.start, udta.stop), [b"udta", b"meta"]
                self._parents.remove(udta)
        return Ilst(_fields(source, ilst), slack=free.stop - free.body if free else -1)

    def splices(self, tags: Sequence[Tag]) -> list[Splice]:
        ilst, *others = tags
        changes: list[tuple[list[Splice], list[_Atom]]] = []
        if ilst != self.tags[0]:
            assert isinstance(ilst, Ilst)
            changes.append(([Splice(*self._where, self._list_atom(ilst))], self._parents))
        for old, new, (where, above) in zip(self.tags[1:], others, self._others, strict=True):
            if old != new:
                parts = [new.render_keys(), new.render()] if isinstance(new, Keys) else [new.render()]
                changes.append(([Splice(*place, data) for place, data in zip(where, parts, strict=True)], above))
        growth: dict[_Atom, int] = {}
        for splices, above in changes:
            for parent in above:
                growth[parent] = growth.get(parent, 0) + sum(_growth(splice) for splice in splices)
        changed = [splice for splices, _ in changes for splice in splices]
        result = [*changed, *self._grown(growth)]
        result += self._moved_offsets(changed, sum(map(_growth, changed)))
        return sorted(result, key=lambda splice: (splice.start, splice.stop))

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

    def _grown(self, growth: Mapping[_Atom, int]) -> list[Splice]:
        result = []
        for atom, more in growth.items():
            size = atom.stop - atom.start + more
            start, stop = atom.size_field
            if size >= 1 << 8 * (stop - start):
                raise self._source.broken("its moov atom would outgrow its size field")
            if more and self._source.read(start, stop) != bytes(stop - start):  # 0: "to the end of the file"
                result.append(Splice(start, stop, size.to_bytes(stop - start, "big")))
        return result

    def _moved_offsets(self, changes: Sequence[Splice], growth: int) -> list[Splice]:
        """Chunk offsets behind changes move with them."""
        if not growth:
            return []
        stop = max(splice.stop for splice in changes)
        if self._unfollowed and any(atom.start >= stop for atom in self._top):
            boxes = ", ".join(sorted({name.decode() for name in self._unfollowed}))
            raise self._source.broken(f"its tag has no room left, and moving the audio would invalidate {boxes}")
        names = {atom.name for atom in self._top if atom.start >= stop}
        if b"mdat" in names and not self._offsets and b"moof" not in names:  # a compressed moov, perhaps
            raise self._source.broken("its tag has no room left, and the table of its audio was not found")
        result = []
        for table, offsets in self._offsets:
            moved = _moved(offsets, changes)
            if (moved != offsets).any():
                dtype = ">u4" if table.name == b"stco" else ">u8"
                if moved.max() >= 1 << 8 * np.dtype(dtype).itemsize:
                    raise self._source.broken("its audio would lie beyond what its 32-bit offsets reach")
                result.append(Splice(table.body + 8, table.stop, moved.astype(dtype).tobytes()))
        return result

    def check_moved(self, new: Container, splices: Sequence[Splice]) -> None:
        """Every chunk offset points at the byte it pointed at before."""
        assert isinstance(new, Mp4)
        if len(self._offsets) != len(new._offsets):
            raise new._source.broken("it lost an offset table")
        changes = [splice for splice in splices if _growth(splice)]
        for (_, old_offsets), (_, offsets) in zip(self._offsets, new._offsets, strict=True):
            if len(old_offsets) != len(offsets):
                raise new._source.broken("an offset table changed its length")
            probes = range(0, len(offsets), max(1, len(offsets) // 64))
            if not np.array_equal(offsets, _moved(old_offsets, changes)) or any(
                self._probe(int(old_offsets[i])) != new._probe(int(offsets[i])) for i in probes
            ):
                raise new._source.broken("an offset table does not point at the audio any more")

    def _probe(self, offset: int) -> bytes:
        """Some bytes of the chunk that begins here. What follows the atom it lies in may be a tag, and change."""
        within = next((atom for atom in self._top if atom.start <= offset < atom.stop), None)
        if within is None or within.name == b"moov":
            return b""
        return self._source.peek(offset, min(offset + _PROBE_BYTES, within.stop))


def _growth(splice: Splice) -> int:
    return len(splice.data) - (splice.stop - splice.start)


def _moved(offsets: NDArray[np.int64], changes: Sequence[Splice]) -> NDArray[np.int64]:
    """Where chunks lie after changes in front of them."""
    moved = offsets.copy()
    for splice in changes:
        moved += np.where(offsets >= splice.stop, _growth(splice), 0)
    return moved


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


def _child_of_meta(source: Source, meta: _Atom, name: bytes) -> _Atom | None:
    return next((atom for atom in _atoms(source, _meta_body(source, meta), meta.stop) if atom.name == name), None)


def _keys(source: Source, meta: _Atom) -> tuple[Keys, tuple[tuple[int, int], ...]]:
    """The metadata keys of a `meta` atom with their items, and where both stand.

    Raises:
        BrokenTag: not one item for each key, in their order; nothing known writes them otherwise.
    """
    keys, ilst = (_child_of_meta(source, meta, name) for name in (b"keys", b"ilst"))
    if not keys or not ilst or keys.start > ilst.start:
        raise source.broken("it has metadata keys without items")
    entries = [source.read(a.start, a.stop) for a in _atoms(source, keys.body + 8, keys.stop)]
    items = [(a.name, source.read(a.body, a.stop)) for a in _atoms(source, ilst.body, ilst.stop)]
    if [name for name, _ in items] != [struct.pack(">I", number) for number in range(1, len(entries) + 1)]:
        raise source.broken("the items of its metadata keys are not in the order of the keys")
    fields = tuple(
        Field(entry[8:].decode("utf-8", "replace"), entry + data)
        for entry, (_, data) in zip(entries, items, strict=True)
    )
    tag = Keys(fields)
    if tag.render_keys() + tag.render() != source.read(keys.start, keys.stop) + source.read(ilst.start, ilst.stop):
        raise source.broken("its metadata keys are in a form that is not known here")
    return tag, ((keys.start, keys.stop), (ilst.start, ilst.stop))


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
