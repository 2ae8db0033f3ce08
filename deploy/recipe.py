"""What the shipped bundles learn from, out of the development data: stored log-Mels, labels and targets.

    python deploy/recipe.py DATA OUTPUT [VOICES]

`logmel`, links to the stored log-Mels and beside them what is no music (deploy/background.py, of the folder VOICES
too), is for `genrebeam shards --stored-log-mels`, `labels-*.csv` for its `--labels`: the sixteen genres, and the ten of
GTZAN. `targets.parquet` is for `genrebeam train --targets`.
"""

from __future__ import annotations

import csv
import json
import lzma
import sys
from collections.abc import Iterator
from pathlib import Path

import background
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from genrebeam.pipelines.library.labels import from_table, gtzan10_claims

GTZAN10 = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
# Emotify's folders: classical and electronic are sure, of pop and rock "one of the two" is.
_EMOTIFY = {"classical": "classical", "electronic": "electronic", "pop": "pop; rock", "rock": "rock; pop"}
_SETS = ("gtzan", "allmusic", "emotify", "songs", "more", "unlabelled", "background")
_STYLES = Path(__file__).with_name("styles.json")  # finer words of `more`, pooled: each has a dozen songs or more
_MUSIC = ("Music", "Scary music")  # the first and the last of AudioSet's classes of music, as they are numbered


def log_mels(data: Path, folder: Path, voices: Path | None) -> None:
    """Make a folder of all stored log-Mels: links to those of the data, and `background`."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*(data / "logmel").iterdir(), *(data / "logmel2048").iterdir()):
        link = folder / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())
    names, kinds, sources, levels = zip(*background.clips(voices), strict=True)
    with lzma.open(folder / "background.npy.xz", "wb", preset=1) as stream:
        np.save(stream, np.stack(levels))
    rows = zip(names, kinds, sources, strict=True)
    # Of no genre, and `labels` says what it is instead.
    _write(folder / "background.csv", [{"track_id": n, "genre": "", "kind": k, "artist": s} for n, k, s in rows])


def labels(data: Path, folder: Path) -> Iterator[dict[str, str]]:
    """One row for each stored clip: track_id as the shards have it, genres (best first), artist.

    GTZAN's clips outside of its fault-filtered split are left out. What is no music has a word of its own, which is
    none of the genres.

    Args:
        folder: of `log_mels`.
    """
    songs = {row["track_id"]: row for row in _rows(data / "teacher" / "allmusic_genre16.csv")}
    for name in _SETS:
        for row in _rows(folder / f"{name}.csv"):
            if row.get("split") == "excluded":
                continue
            genres = {
                "gtzan": row.get("genre", ""),
                "allmusic": songs.get(row["track_id"], {}).get("genre16", ""),
                "emotify": _EMOTIFY.get(row.get("folder_genre", ""), ""),
                "songs": row.get("genre16", ""),
                "more": row.get("genre16", ""),
                "background": row.get("kind", ""),
            }.get(name, "")
            # Parts of one song stay together whether its artist is known or not.
            song = f"{name}/{row['track_id']}" if row.get("part") else ""
            artist = song if song and row["artist"] == "unknown" else row.get("artist", "")
            yield {"track_id": clip_id(name, row), "genres": genres, "artist": artist}


def clip_id(name: str, row: dict[str, str]) -> str:
    """What the shards call a clip of a set."""
    return f"{name}/{row['track_id']}" + (f"-{row['part']}" if row.get("part") else "")


def gtzan10(data: Path, folder: Path) -> dict[str, list[str] | None]:
    """Which of GTZAN's ten each clip is, in the narrower sense that GTZAN has of them.

    AllMusic's and Emotify's artists have been given theirs by hand (pipelines/data/claims_gtzan10.json), songs bring
    their own: those of `more` are of the ten where that is sure and their first word is one. What is of some of the
    sixteen, but of none of the ten, is "none of these"; of the rest nothing is known.
    """
    sixteen = {row["track_id"]: _words(row["genres"]) for row in labels(data, folder)}
    named: dict[str, list[str]] = {}
    for name in ("gtzan", "allmusic", "emotify", "songs", "background"):
        by_clip = from_table(folder / f"{name}.csv", gtzan10_claims())
        named |= {f"{name}/{clip}": list(label.genres) for clip, label in by_clip.items()}
    for row in _rows(folder / "more.csv"):
        words = _words(row["genre16"])
        is_sure = row["sure"] == "1" and set(words[:1]) <= set(GTZAN10)
        named[clip_id("more", row)] = [word for word in words if word in GTZAN10] if is_sure else []
    found: dict[str, list[str] | None] = {}
    for clip, genres in named.items():
        words = sixteen.get(clip, [])
        is_other = bool(words) and not set(words) & set(GTZAN10)
        found[clip] = genres or ([] if is_other else None)
    return found


def finer(folder: Path) -> dict[str, dict[str, list[str]]]:
    """What the clips are called beside their genres, by head: styles of `more` in pools, AllMusic's own 21 genres.

    Args:
        folder: of `log_mels`.
    """
    pools = {pool: set(_words(styles)) for pool, styles in json.loads(_STYLES.read_text(encoding="utf-8")).items()}
    styles = {clip_id("more", row): set(_words(row["style"])) for row in _rows(folder / "more.csv")}
    return {
        "style": {
            clip: [pool for pool, members in pools.items() if members & words]
            for clip, words in styles.items()
            if words
        },
        "allmusic": {
            clip_id("allmusic", row): words
            for row in _rows(folder / "allmusic.csv")
            if (words := _words(row["allmusic_genres"]))
        },
    }


def targets(data: Path, ten: dict[str, list[str] | None], taught: dict[str, dict[str, list[str]]]) -> pa.Table:
    """What two networks with large pre-training say of the clips: tags, AudioSet's classes of music, an embedding.

    Beside them the ten genres, and words that only teach (`finer`). GTZAN's numbers come from other sound (rebuilt from
    log-Mels) or another program: standardised by themselves.
    """
    names = [row["display_name"] for row in _rows(data / "teacher" / "audioset_labels.csv")]
    music = slice(names.index(_MUSIC[0]), names.index(_MUSIC[1]) + 1)
    found: dict[str, dict[str, NDArray[np.float32]]] = {"tags": {}, "audioset": {}, "embedding": {}}

    def put(head: str, parts: dict[str, tuple[NDArray[np.str_], NDArray[np.float16]]]) -> None:
        together = np.concatenate([values.astype(np.float32) for _, values in parts.values()])
        mean, spread = together.mean(axis=0), together.std(axis=0) + 1e-6
        for name, (ids, values) in parts.items():
            scaled = (values.astype(np.float32) - mean) / spread
            found[head] |= {f"{name}/{i}": row for i, row in zip(ids, scaled, strict=True)}

    sets = {name: np.load(data / "teacher" / f"{name}.npz") for name in ("allmusic", "songs", "gtzan")}
    for head, key, part in (
        ("tags", "msd_tag_logits", slice(None)),
        ("audioset", "audioset_logits", music),
        ("embedding", "audioset_embedding", slice(None)),
    ):
        put(head, {name: (sets[name]["track_id"], sets[name][key][:, part]) for name in ("allmusic", "songs")})
        if key in sets["gtzan"]:
            put(head, {"gtzan": (sets["gtzan"]["track_id"], sets["gtzan"][key][:, part])})
    of_gtzan = np.load(data / "teacher" / "gtzan_train_msd_tags.npz")
    shares = np.clip(of_gtzan["msd_tag_probabilities"].astype(np.float32), 1e-4, 1 - 1e-4)
    put("tags", {"gtzan": (of_gtzan["track_id"], np.log(shares / (1 - shares)))})
    ids = sorted(set(ten).union(*found.values(), *taught.values()))
    columns = {
        head: pa.array([_listed(values.get(i)) for i in ids], pa.list_(pa.float32())) for head, values in found.items()
    }
    for head, words in {"gtzan10": ten, **taught}.items():
        columns[head] = pa.array([words.get(i) for i in ids], pa.list_(pa.string()))
    note = "EfficientAT mn04 (AudioSet) and musicnn (Million Song Dataset), neither of them trained on these labels"
    return pa.table({"track_id": ids, **columns}).replace_schema_metadata(
        {"genrebeam.note": note, "genrebeam.not_in_bundle": "; ".join(taught)}
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(";") if word.strip()]


def _listed(values: NDArray[np.float32] | None) -> list[float] | None:
    return None if values is None else values.tolist()


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        yield from csv.DictReader(stream)


def _write(file: Path, rows: list[dict[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main(data: str, output: str, voices: str = "") -> None:
    source, folder = Path(data), Path(output)
    log_mels(source, folder / "logmel", Path(voices) if voices else None)
    rows, ten = list(labels(source, folder / "logmel")), gtzan10(source, folder / "logmel")
    _write(folder / "labels-genres16.csv", rows)
    # Of none of the ten: under its own name, which is none of the ten either.
    words = {row["track_id"]: ten.get(row["track_id"]) for row in rows}
    # What is no music is heard with the sixteen, not here: figures of the ten are of music, and so is their line.
    music = [row for row in rows if not row["track_id"].startswith("background/")]
    known = [row for row in music if words[row["track_id"]] is not None]
    in_ten = [row | {"genres": "; ".join(words[row["track_id"]] or [row["genres"]])} for row in known]
    _write(folder / "labels-gtzan10.csv", in_ten)
    pq.write_table(targets(source, ten, finer(folder / "logmel")), folder / "targets.parquet", compression="zstd")


if __name__ == "__main__":
    main(*sys.argv[1:])
