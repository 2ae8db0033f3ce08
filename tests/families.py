"""Files in which tags of several families stand, synthesised: what other programs make of MP3, FLAC, WAV, MP4, ...

Each says title "Title", artist "Artist" and genre Rock, in the families of its name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import tagfiles
from mutagen.apev2 import APEv2
from mutagen.asf import ASF
from mutagen.flac import FLAC
from mutagen.id3 import ID3, TCON, TIT2, TPE1
from mutagen.mp4 import MP4, MP4FreeForm
from mutagen.oggvorbis import OggVorbis

WORDS = {"title": "Title", "artist": "Artist", "genre": "Rock"}


def id3v2(title: str = "Title", version: int = 4) -> bytes:
    """A whole ID3v2 tag."""
    from io import BytesIO

    tags, file = ID3(), BytesIO()
    for frame, name in ((TIT2, "title"), (TPE1, "artist"), (TCON, "genre")):
        tags.add(frame(encoding=3, text=[(WORDS | {"title": title})[name]]))
    tags.save(file, v1=0, v2_version=version, padding=lambda info: 20)
    return file.getvalue()


def add_ape(path: Path, title: str = "Title") -> None:
    tags = APEv2()
    for name, value in (WORDS | {"title": title}).items():
        tags[name.title()] = value
    tags.save(path)


def add_front(path: Path, title: str = "Title") -> None:
    path.write_bytes(id3v2(title) + path.read_bytes())


def add_2_3(path: Path) -> None:
    path.write_bytes(id3v2("Title", 3) + path.read_bytes())


def add_2_2(path: Path) -> None:
    frames = b""
    for name, text in ((b"TT2", "Title"), (b"TP1", "Artist"), (b"TCO", "Rock")):
        frames += name + (len(text) + 1).to_bytes(3, "big") + b"\0" + text.encode()
    size = len(frames) + 20
    path.write_bytes(b"ID3\2\0\0\0\0" + bytes([size >> 7, size & 127]) + frames + bytes(20) + path.read_bytes())


def add_unsynchronised(path: Path) -> None:
    """ID3v2.3 with a picture in which what looks like sound is broken up."""
    data = b"\0image/png\0\3\0" + b"\xff\xfb\x90" * 30
    frames = b"APIC" + struct.pack(">IH", len(data), 0) + data
    for name, text in ((b"TIT2", "Title"), (b"TPE1", "Artist"), (b"TCON", "Rock")):
        frames += name + struct.pack(">IH", len(text) + 1, 0) + b"\0" + text.encode()
    frames = frames.replace(b"\xff", b"\xff\0")
    size = len(frames)
    path.write_bytes(b"ID3\3\0\x80\0\0" + bytes([size >> 7, size & 127]) + frames + path.read_bytes())


def add_lyrics(path: Path) -> None:
    body = b"LYRICSBEGIN" + b"IND0000200" + b"LYR00011[00:01]la la"[:19]
    path.write_bytes(path.read_bytes() + body + f"{len(body):06d}LYRICS200".encode())


def to_front(path: Path) -> None:
    """moov in front of mdat, as shops deliver it."""
    muxed(path, "ipod", "aac", movflags="faststart")


def add_v1(path: Path, title: str = "Title") -> None:
    path.write_bytes(path.read_bytes() + tagfiles.id3v1(17, title=title.encode()))


def add_comments(path: Path, title: str = "Title") -> None:
    file = FLAC(path) if path.suffix == ".flac" else OggVorbis(path)
    for name, value in (WORDS | {"title": title}).items():
        file[name] = [value]
    file.save()


def add_info(path: Path, title: str = "Title") -> None:
    """LIST INFO behind the sound of a WAV."""
    fields = b""
    for name, value in (("INAM", title), ("IART", "Artist"), ("IGNR", "Rock")):
        text = value.encode() + b"\0"
        fields += name.encode() + struct.pack("<I", len(text)) + text + len(text) % 2 * b"\0"
    data = path.read_bytes() + b"LIST" + struct.pack("<I", 4 + len(fields)) + b"INFO" + fields
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])


def add_id3_chunk(path: Path, title: str = "Title") -> None:
    from mutagen.wave import WAVE

    file = WAVE(path)
    file.add_tags()
    for frame, name in ((TIT2, "title"), (TPE1, "artist"), (TCON, "genre")):
        file.tags.add(frame(encoding=3, text=[(WORDS | {"title": title})[name]]))
    file.save()


def add_items(path: Path, **others: object) -> None:
    """An iTunes list: title and artist, and the genre as it is told."""
    file = MP4(path)
    file["\xa9nam"], file["\xa9ART"] = ["Title"], ["Artist"]
    for key, value in others.items():
        file["\xa9gen" if key == "gen" else "----:com.apple.iTunes:GENRE"] = value
    file.save()


def numbered_genre(path: Path) -> None:
    """The genre as a number of ID3v1's list plus one, in a `gnre` atom that takes its bytes from the padding."""
    add_items(path)
    data = path.read_bytes()
    gnre = struct.pack(">I4sI4sIIH", 26, b"gnre", 18, b"data", 0, 0, 18)
    at = data.index(b"ilst") - 4
    free = data.index(b"free", at) - 4
    room = struct.unpack_from(">I", data, free)[0] - len(gnre)
    ilst = struct.pack(">I", free - at + len(gnre)) + data[at + 4 : free] + gnre
    padding = struct.pack(">I4s", room, b"free") + bytes(room - 8)
    path.write_bytes(data[:at] + ilst + padding + data[at + len(ilst) + len(padding) :])


def muxed(path: Path, container: str, codec: str, **options: str) -> None:
    """Sound with the tags that FFmpeg writes into a container."""
    with av.open(str(path), "w", format=container, options=options) as output:
        output.metadata.update(WORDS)
        layout = "mono" if container == "3gp" else "stereo"
        stream = output.add_stream(codec, rate=tagfiles.RATE_HZ, layout=layout)
        samples = tagfiles.tone(0.5, channels=1 if layout == "mono" else 2)
        for start in range(0, len(samples), 1024):
            block = np.ascontiguousarray(samples[start : start + 1024].T)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = tagfiles.RATE_HZ, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def library(path: Path) -> None:
    """Further genres in the Metadata Library of a WMA, where mutagen puts them."""
    file = ASF(path)
    file["Title"], file["Author"], file["WM/Genre"] = "Title", "Artist", ["Rock", "Rock and Roll"]
    file.save()


def _made(kind: str, *steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        tagfiles.MAKERS[kind](path)
        for step in steps:
            step(path)

    return make


def _adts(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        muxed(path, "adts", "aac")
        for step in steps:
            step(path)

    return make


# Name: suffix of the file, and what makes it.
FAMILIES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "mp3: APEv2": (".mp3", _made("mp3", add_ape)),
    "mp3: ID3v1": (".mp3", _made("mp3", add_v1)),
    "mp3: ID3v2, APEv2, ID3v1": (".mp3", _made("mp3", add_front, add_ape, add_v1)),
    "mp3: APEv2, ID3v1": (".mp3", _made("mp3", add_ape, add_v1)),
    "mp3: ID3v2.3": (".mp3", _made("mp3", add_2_3)),
    "mp3: ID3v2.2": (".mp3", _made("mp3", add_2_2)),
    "mp3: ID3v2.3 unsynchronised": (".mp3", _made("mp3", add_unsynchronised)),
    "mp3: two ID3v2": (".mp3", _made("mp3", add_2_3, add_front)),
    "mp3: Lyrics3, ID3v1": (".mp3", _made("mp3", add_lyrics, add_v1)),
    "mp3: APEv2, Lyrics3, ID3v1": (".mp3", _made("mp3", add_ape, add_lyrics, add_v1)),
    "aac: APEv2": (".aac", _adts(add_ape)),
    "aac: ID3v2": (".aac", _adts(add_front)),
    "tta: ID3v2, APEv2": (".tta", _made("tta", add_front, add_ape)),
    "flac: ID3v2": (".flac", _made("flac", add_front)),
    "flac: Vorbis comments, ID3v2": (".flac", _made("flac", add_comments, add_front)),
    "flac: Vorbis comments, ID3v1": (".flac", _made("flac", add_comments, add_v1)),
    "ogg: Vorbis comments, ID3v2": (".ogg", _made("ogg", add_comments, add_front)),
    "wv: APEv2": (".wv", _made("wv", add_ape)),
    "wv: APEv2, ID3v1": (".wv", _made("wv", add_ape, add_v1)),
    "wv: ID3v1": (".wv", _made("wv", add_v1)),
    "mpc: APEv2": (".mpc", _made("mpc", add_ape)),
    "mpc: ID3v2": (".mpc", _made("mpc", add_front)),
    "ape: APEv2, ID3v2": (".ape", _made("ape", add_ape, add_front)),
    "wav: LIST INFO": (".wav", _made("wav", add_info)),
    "wav: LIST INFO, ID3 chunk": (".wav", _made("wav", add_info, add_id3_chunk)),
    "mp4: metadata keys": (".m4a", lambda path: muxed(path, "mp4", "aac", movflags="use_metadata_tags")),
    "mp4: QuickTime user data": (".mov", lambda path: muxed(path, "mov", "aac")),
    "mp4: 3GPP user data": (".3gp", lambda path: muxed(path, "3gp", "aac")),
    "mp4: iTunes list": (".m4a", _made("m4a", lambda path: add_items(path, gen=["Rock"]))),
    "mp4: iTunes list in front": (".m4a", to_front),
    "mp4: free-form genre": (
        ".m4a",
        _made("m4a", lambda path: add_items(path, gen=["Rock"], free=[MP4FreeForm(b"Rock")])),
    ),
    "mp4: free-form genre alone": (".m4a", _made("m4a", lambda path: add_items(path, free=[MP4FreeForm(b"Rock")]))),
    "mp4: gnre": (".m4a", _made("m4a", numbered_genre)),
    "wma: Metadata Library": (".wma", _made("wma", library)),
}


def make(folder: Path, name: str) -> Path:
    """One of FAMILIES."""
    suffix, maker = FAMILIES[name]
    path = folder / f"{name.replace(': ', '-').replace(', ', '-').replace(' ', '_')}{suffix}"
    maker(path)
    return path
