"""A track is one line of a playlist, whatever its name and tags are."""

import pytest

from genrebeam.pipelines.jobs.playlist import Entry, as_m3u8


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("/m/a.mp3", "a.mp3"),
        ("/m/#1 Hits.mp3", "./#1 Hits.mp3"),
        ("/m/a\n/etc/passwd", "file:///m/a%0A/etc/passwd"),
        ("file:///m/caf%E9.flac", "file:///m/caf%E9.flac"),
        ("s3://b/m/a.mp3", "s3://b/m/a.mp3"),
    ],
)
def test_a_track_is_one_line(tmp_path, uri, line):
    entry = Entry("a", uri, "An\nArtist", None, "#EXTM3U\nx", 1.0, "Pop", 1.0)
    assert as_m3u8([entry], type(tmp_path)("/m")).splitlines() == ["#EXTM3U", "#EXTINF:1,An Artist - #EXTM3U x", line]
