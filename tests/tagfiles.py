"""Small audio files of every container with tags in every state, and results datasets that speak of them."""

from __future__ import annotations

import contextlib
import datetime as dt
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf

from genrebeam.features.schema import Track
from genrebeam.pipelines.apply.options import ApplyOptions
from genrebeam.pipelines.dataset.schema import RESULTS, track_columns
from genrebeam.pipelines.jobs import apply
from genrebeam.pipelines.jobs.apply import ApplyReport
from genrebeam.pipelines.storage.places import path_uri
from genrebeam.pipelines.tags.policy import TagPolicy

RATE_HZ = 44_100
WHEN = dt.datetime(2026, 11, 1, 12, 0, 0, tzinfo=dt.timezone.utc)
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)


def tone(seconds: float = 0.5, channels: int = 2) -> np.ndarray:
    """float32 [samples, channels]: two sines and a little seeded noise, so that codecs have something to do."""
    t = np.arange(int(RATE_HZ * seconds)) / RATE_HZ
    noise = np.random.default_rng(7).normal(0, 0.02, (len(t), channels))
    wave = 0.3 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * 1234 * t)
    return (wave[:, None] + noise).astype(np.float32)


def _soundfile(path: Path, *, container: str, subtype: str, rate_hz: int = RATE_HZ, seconds: float = 0.5) -> None:
    with sf.SoundFile(path, "w", rate_hz, 2, subtype, format=container) as file:
        samples = tone(seconds)
        for start in range(0, len(samples), 4096):  # one long Ogg write crashes libsndfile
            file.write(samples[start : start + 4096])


def _pyav(path: Path, *, container: str, codec: str, layout: str = "fltp", seconds: float = 0.5) -> None:
    samples = tone(seconds)
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=RATE_HZ, layout="stereo", bit_rate=128_000)
        if layout.startswith("s16"):
            samples = (samples * 32767).astype(np.int16)
        elif layout.startswith("s32"):
            samples = (samples * 32767).astype(np.int32) << 16
        planar = layout.endswith("p")
        step = 1024
        for start in range(0, len(samples), step):
            block = samples[start : start + step]
            array = np.ascontiguousarray(block.T) if planar else np.ascontiguousarray(block).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(array, format=layout, layout="stereo")
            frame.sample_rate = RATE_HZ
            frame.pts = start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _dsf(path: Path) -> None:
    """A minimal stereo DSF: 4096 bytes of one-bit samples per channel, no tag."""
    data = np.random.default_rng(3).integers(0, 256, 2 * 4096, dtype=np.uint8).tobytes()
    fmt = b"fmt " + struct.pack("<QIIIIIIQII", 52, 1, 0, 2, 2, 2_822_400, 1, 4096 * 8, 4096, 0)
    chunk = b"data" + struct.pack("<Q", 12 + len(data)) + data
    total = 28 + len(fmt) + len(chunk)
    path.write_bytes(b"DSD " + struct.pack("<QQQ", 28, total, 0) + fmt + chunk)


def _musepack(path: Path) -> None:
    """The header of a Musepack SV7 stream and noise: enough for what only looks at the ends."""
    noise = np.random.default_rng(5).integers(0, 256, 4000, dtype=np.uint8).tobytes()
    path.write_bytes(b"MP+\x07" + struct.pack("<IHBB", 10, 0, 0, 0x80) + bytes(16) + noise)


def _monkeys(path: Path) -> None:
    """A Monkey's Audio 3.99 descriptor and header, and noise."""
    noise = np.random.default_rng(6).integers(0, 256, 4000, dtype=np.uint8).tobytes()
    descriptor = b"MAC " + struct.pack("<HHIIIIIII", 3990, 0, 52, 24, 4, 0, len(noise), 0, 0) + bytes(16)
    header = struct.pack("<HHIIIHHI", 2000, 0, 73728, 22050, 1, 16, 2, RATE_HZ)
    path.write_bytes(descriptor + header + bytes(4) + noise)


def _speex(path: Path) -> None:
    """An Ogg stream with the header and comment packets of Speex and one packet of noise."""
    from mutagen.ogg import OggPage

    header = b"Speex   1.2.0".ljust(28, b"\0") + struct.pack(
        "<IIIIIiIIIIIII", 1, 80, 16_000, 1, 4, 1, -1 & 0x7FFFFFFF, 320, 0, 1, 0, 0, 0
    )
    comment = struct.pack("<I", 5) + b"maker" + struct.pack("<I", 0)
    noise = np.random.default_rng(8).integers(0, 256, 700, dtype=np.uint8).tobytes()
    pages = []
    for number, packet in enumerate((header, comment, noise)):
        page = OggPage()
        page.serial, page.sequence, page.packets = 77, number, [packet]
        page.position, page.first, page.last = (320 if number == 2 else 0), number == 0, number == 2
        pages.append(page.write())
    path.write_bytes(b"".join(pages))


MAKERS = {
    "mp3": lambda p: _soundfile(p, container="MP3", subtype="MPEG_LAYER_III"),
    "flac": lambda p: _soundfile(p, container="FLAC", subtype="PCM_16"),
    "ogg": lambda p: _soundfile(p, container="OGG", subtype="VORBIS"),
    "opus": lambda p: _soundfile(p, container="OGG", subtype="OPUS", rate_hz=48_000),
    "oga": lambda p: _pyav(p, container="ogg", codec="flac", layout="s16"),
    "spx": _speex,
    "wav": lambda p: _soundfile(p, container="WAV", subtype="PCM_16"),
    "aiff": lambda p: _soundfile(p, container="AIFF", subtype="PCM_16"),
    "m4a": lambda p: _pyav(p, container="ipod", codec="aac"),
    "alac": lambda p: _pyav(p, container="ipod", codec="alac", layout="s16p"),
    "wma": lambda p: _pyav(p, container="asf", codec="wmav2"),
    "tta": lambda p: _pyav(p, container="tta", codec="tta", layout="s16"),
    "wv": lambda p: _pyav(p, container="wv", codec="wavpack", layout="s16p"),
    "ape": _monkeys,
    "mpc": _musepack,
    "dsf": _dsf,
}
DECODABLE = tuple(name for name in MAKERS if name not in ("spx", "ape", "mpc", "dsf"))


def make(folder: Path, kind: str, name: str = "track") -> Path:
    """A file of a kind in MAKERS without any genre."""
    path = folder / f"{name}.{kind if kind != 'alac' else 'm4a'}"
    MAKERS[kind](path)
    return path


def samples(path: Path) -> bytes:
    """All that FFmpeg decodes of a file, as bytes. A WavPack file ends in an error where an ID3v1 tag begins."""
    decoded = []
    with av.open(str(path)) as container, contextlib.suppress(av.error.InvalidDataError):
        decoded.extend(frame.to_ndarray().tobytes() for frame in container.decode(audio=0))
    return b"".join(decoded)


def fill(path: Path, kind: str, genre: str | None = "Other") -> None:
    """Title, artist, a picture, odd and unknown fields, and a genre, in the way of the container."""
    if kind in ("mp3", "tta", "wav", "aiff", "dsf"):
        _fill_id3(path, kind, genre)
    elif kind in ("flac", "ogg", "opus", "oga", "spx"):
        _fill_comments(path, genre)
    elif kind in ("m4a", "alac"):
        _fill_mp4(path, genre)
    elif kind == "wma":
        _fill_asf(path, genre)
    else:
        _fill_ape(path, genre)


def _fill_id3(path: Path, kind: str, genre: str | None) -> None:
    import mutagen.aiff
    import mutagen.dsf
    import mutagen.id3 as id3
    import mutagen.wave

    opened = {"wav": mutagen.wave.WAVE, "aiff": mutagen.aiff.AIFF, "dsf": mutagen.dsf.DSF}.get(kind)
    if opened:
        file = opened(path)
        if file.tags is None:
            file.add_tags()
        tags = file.tags
    else:
        file = tags = id3.ID3()
    tags.add(id3.TIT2(encoding=1, text=["Tïtle"]))
    tags.add(id3.TPE1(encoding=3, text=["One", "Two"]))
    tags.add(id3.APIC(encoding=0, mime="image/png", type=3, desc="front", data=PNG))
    tags.add(id3.APIC(encoding=0, mime="image/png", type=4, desc="back", data=PNG * 9))
    tags.add(id3.PRIV(owner="someone", data=b"\xff\xfe\x00private\xff\x00\xe0"))
    tags.add(id3.TXXX(encoding=3, desc="MOOD", text=["odd"]))
    tags.unknown_frames.append(b"XYZW" + struct.pack(">I", 5) + b"\0\0" + b"hello")
    if genre:
        tags.add(id3.TCON(encoding=3, text=[genre]))
    file.save(path) if opened else tags.save(path, v1=0)


def _fill_comments(path: Path, genre: str | None) -> None:
    import mutagen

    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    file["title"], file["artist"], file["mood"] = ["Tïtle"], ["One", "Two"], ["odd"]
    file["metadata_block_picture"] = ["A" * 4000]
    if genre:
        file["genre"] = [genre]
    file.save()
    if path.suffix == ".flac":
        from mutagen.flac import FLAC, Picture

        flac, picture = FLAC(path), Picture()
        picture.data, picture.mime, picture.type = PNG, "image/png", 3
        flac.add_picture(picture)
        flac.save()


def _fill_mp4(path: Path, genre: str | None) -> None:
    from mutagen.mp4 import MP4, AtomDataType, MP4Cover, MP4FreeForm

    file = MP4(path)
    file["\xa9nam"], file["\xa9ART"], file["covr"] = ["Tïtle"], ["One", "Two"], [MP4Cover(PNG), MP4Cover(PNG * 9)]
    file["trkn"], file["cpil"] = [(3, 9)], True
    file["----:com.example:odd"] = [MP4FreeForm(b"\x00\x01binary", AtomDataType.IMPLICIT)]
    if genre:
        file["\xa9gen"] = [genre]
    file.save()


def _fill_asf(path: Path, genre: str | None) -> None:
    from mutagen.asf import ASF, ASFByteArrayAttribute, ASFDWordAttribute

    file = ASF(path)
    file["Title"], file["Author"] = "Tïtle", ["One", "Two"]
    file["WM/Picture"] = ASFByteArrayAttribute(
        b"\x03" + struct.pack("<I", len(PNG)) + "image/png\0\0".encode("utf-16-le") + PNG
    )
    file["Odd"] = [ASFDWordAttribute(7), ASFDWordAttribute(8)]
    if genre:
        file["WM/Genre"] = genre
    file.save()


def _fill_ape(path: Path, genre: str | None) -> None:
    from mutagen.apev2 import APEBinaryValue, APEv2, APEValue

    tags = APEv2()
    tags["Title"], tags["Artist"], tags["Mood"] = "Tïtle", ["One", "Two"], "odd"
    tags["Cover Art (Front)"] = APEBinaryValue(b"front.png\0" + PNG)
    tags["Link"] = APEValue("https://example.org", 2)
    if genre:
        tags["Genre"] = genre
    tags.save(path)


def id3v1(genre: int = 17, title: bytes = b"Old title") -> bytes:
    """128 bytes of ID3v1.1."""
    return (
        b"TAG"
        + title.ljust(30, b"\0")
        + b"Artist".ljust(30, b"\0")
        + b"Album".ljust(30, b"\0")
        + (b"1999" + b"Comment".ljust(28, b"\0") + b"\0\x07" + bytes([genre]))
    )


def results(
    output_dir: Path,
    heard: Mapping[Path, Sequence[tuple[str, float]]],
    *,
    root: Path,
    fingerprint: str = "fp-1",
    when: dt.datetime = WHEN,
    run_id: str = "run-1",
    track_ids: Sequence[str] | None = None,
) -> None:
    """A results dataset that heard these genres (label and confidence, the surest first) in these files."""
    names = track_ids or [str(path.relative_to(root)) for path in heard]
    tracks = {}
    for name, (path, genres) in zip(names, heard.items(), strict=True):
        status = path.stat()
        tracks[Track(path_uri(path), name, status.st_size, status.st_mtime_ns // 1000 / 1e6)] = genres
    results_of_tracks(output_dir, tracks, fingerprint=fingerprint, when=when, run_id=run_id)


def results_of_tracks(
    output_dir: Path,
    heard: Mapping[Track, Sequence[tuple[str, float]]],
    *,
    fingerprint: str = "fp-1",
    when: dt.datetime = WHEN,
    run_id: str = "run-1",
) -> None:
    """The same for files that are not local."""
    rows = result_rows(heard, fingerprint=fingerprint, when=when, run_id=run_id)
    (output_dir / "results").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, RESULTS), output_dir / "results" / f"{run_id}.parquet")


def result_rows(
    heard: Mapping[Track, Sequence[tuple[str, float]]],
    *,
    fingerprint: str = "fp-1",
    when: dt.datetime = WHEN,
    run_id: str = "run-1",
) -> list[dict[str, Any]]:
    """Rows as `genrebeam tag` writes them, as far as tags need them."""
    return [
        {
            **track_columns(track),
            "genre": genres[0][0] if genres else None,
            "confidence": genres[0][1] if genres else None,
            "top": [{"genre": genre, "score": score} for genre, score in genres],
            "model_id": "test-model",
            "model_fingerprint": fingerprint,
            "run_id": run_id,
            "processed_at": when,
        }
        for track, genres in heard.items()
    ]


def cut(path: Path, drop: int) -> None:
    """Take bytes off the end of a file."""
    data = path.read_bytes()
    path.write_bytes(data[:-drop])


def break_tag(path: Path, kind: str) -> None:
    """Damage a filled file's tag the way the world does: sizes that lie, text in no encoding, a tag cut short."""
    data = bytearray(path.read_bytes())
    if kind in ("mp3", "tta", "wav", "aiff", "dsf"):
        at = data.find(b"TPE1")
        data[at + 4 : at + 8] = b"\x7f\x7f\x7f\x7f"  # a frame longer than the tag
    elif kind in ("flac", "ogg", "opus", "oga", "spx"):
        at = data.find(b"title=")
        data[at - 4 : at] = b"\xff\xff\xff\x7f"  # an entry longer than the block
    elif kind in ("m4a", "alac"):
        at = data.find(b"\xa9nam")
        data[at - 4 : at] = b"\x7f\xff\xff\xff"
    elif kind == "wma":
        at = data.find("WM/Genre".encode("utf-16-le"))
        data[at - 2 : at] = b"\xff\xff"
    else:
        at = data.find(b"Title\0")
        data[at - 8 : at - 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)


def apply_all(
    output_dir: Path, *, undo: bool = False, policy: str = "overwrite", respect_edits: bool = True, **options: Any
) -> ApplyReport:
    """Apply a results dataset, or undo it, without asking."""
    tags = TagPolicy(policy=policy, respect_edits=respect_edits)
    task = apply.new_run(output_dir, ApplyOptions(tags=tags, yes=True, **options))
    read = apply.batches_of_journal if undo else apply.batches_of_results
    return apply.work(read(output_dir).batches, task)
