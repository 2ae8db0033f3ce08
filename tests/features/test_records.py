"""Records come back as they went in, and strangers' records are refused with a reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import RecordError
from genrebeam.features.records import Labels, count_records, encode, first_record, parse
from genrebeam.features.schema import AudioInfo, FileTags, Track, TrackFeatures

FRONT_END = FrontEnd()
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)

TAGS = FileTags(("Rock", "Jazz"), ("Rock",), "Björk", None, "日本")


def features(frames=3, front_end=FRONT_END, **track):
    values = {"uri": "/m/a.mp3", "track_id": "a.mp3", "size": 7, "mtime": 1.5} | track
    log_mel = np.arange(frames * 128, dtype=np.uint32).reshape(frames, 128).astype(np.uint8)
    return TrackFeatures(
        Track(**values), AudioInfo("mp3", "mp3", 4.25, 44_100, 2), log_mel, front_end.fingerprint(), TAGS
    )


@settings(deadline=None, max_examples=50)
@given(
    uri=TEXT,
    track_id=TEXT,
    size=st.integers(0, 2**50),
    mtime_us=st.integers(0, 4 * 10**15),
    frames=st.integers(0, 5),
    labels=st.none() | st.builds(Labels, st.tuples(TEXT, TEXT), TEXT, TEXT),
)
def test_round_trip(uri, track_id, size, mtime_us, frames, labels):
    before = features(frames, uri=uri, track_id=track_id, size=size, mtime=mtime_us / 1e6)
    after, after_labels = parse(encode(before, labels), FRONT_END)
    assert after.track == before.track
    assert (after.audio, after.front_end, after.tags) == (before.audio, before.front_end, before.tags)
    np.testing.assert_array_equal(after.log_mel, before.log_mel)
    assert after_labels == labels


def test_equal_tracks_make_equal_bytes():
    assert encode(features(), Labels(("rock",), "train", "x")) == encode(features(), Labels(("rock",), "train", "x"))


def test_another_front_end_is_refused_with_both_fingerprints():
    with pytest.raises(RecordError, match=r"a\.mp3.*extract them anew"):
        parse(encode(features(front_end=FrontEnd(hop_length=2048))), FRONT_END)


@pytest.mark.parametrize("record", [b"", b"\x00garbage", b"\x0a\x03abc"])
def test_what_is_no_record_is_refused(record):
    with pytest.raises(RecordError):
        parse(record, FRONT_END)


def test_records_are_counted_without_reading_them(tmp_path):
    import tensorflow as tf

    path = tmp_path / "x.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for frames in (1, 50, 3):
            writer.write(encode(features(frames)))
    with path.open("rb") as file:
        assert count_records(file, str(path)) == 3
        assert first_record(file) == encode(features(1))
    path.write_bytes(path.read_bytes()[:-10])
    with path.open("rb") as file, pytest.raises(RecordError, match=r"x\.tfrecord.* record 3"):
        count_records(file, str(path))
