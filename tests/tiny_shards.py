"""Small shard sets for tests: each genre has its energy in a place of its own, so a network can learn it in seconds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from genrebeam.features.config import FrontEnd
from genrebeam.features.records import Labels, encode
from genrebeam.features.schema import AudioInfo, Track, TrackFeatures
from genrebeam.model import shardset
from genrebeam.model.shardset import ShardSet, Split

FRONT_END = dataclasses.replace(FrontEnd(), mel_bands=16, n_fft=4096, hop_length=4096)
GENRES = ("low", "middle", "high")


def log_mel(genre: str, seed: int, frames: int = 60) -> np.ndarray:
    """Noise with a bright stripe where the genre has it: uint8 [frames, 16]."""
    levels = np.random.default_rng(seed).integers(40, 90, (frames, FRONT_END.mel_bands))
    at = GENRES.index(genre) * 5
    levels[:, at : at + 5] += 100
    return levels.astype(np.uint8)


def features(track_id: str, levels: np.ndarray, front_end: FrontEnd = FRONT_END) -> TrackFeatures:
    audio = AudioInfo("wav", "pcm_s16le", len(levels) / front_end.frames_per_s, 22_050, 1)
    return TrackFeatures(Track(f"/music/{track_id}", track_id, 1, 0.0), audio, levels, front_end.fingerprint())


def write(
    folder: Path, *, train: int = 12, valid: int = 6, extra: tuple[tuple[str, ...], ...] = (), frames: int = 60
) -> ShardSet:
    """A shard set with `train` and `valid` tracks of each genre, and one more training track per claim in `extra`."""
    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, count in (("train", train), ("valid", valid)):
        file = f"{split}-00000-of-00001.tfrecord"
        claims = [((genre,), genre) for genre in GENRES for _ in range(count)]
        if split == "train":
            claims += [(genres, genres[0] if genres and genres[0] in GENRES else "low") for genres in extra]
        with tf.io.TFRecordWriter(str(folder / file)) as writer:
            for number, (genres, look) in enumerate(claims):
                track = features(f"{split}/{number:03d}.wav", log_mel(look, number + (split == "valid") * 1000, frames))
                writer.write(encode(track, Labels(genres, split, f"artist {split} {number}")))
        singles = {genre: count + sum(g == (genre,) for g, _ in claims[3 * count :]) for genre in GENRES}
        several = sum(len(genres) > 1 for genres, _ in claims)
        splits[split] = Split((file,), len(claims), 0.1, singles, several, sum(not genres for genres, _ in claims))
    shards = ShardSet(str(folder), FRONT_END, GENRES, splits, f"tiny-{train}-{valid}-{len(extra)}")
    shardset.save(shards)
    return shards
