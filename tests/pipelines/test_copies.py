"""Copies of objects on this machine."""

import pytest

from genrebeam.pipelines.storage import copies, objects


@pytest.mark.parametrize(("name", "suffix"), [("a.mp3", ".mp3"), ("Mr. " + "x" * 255, ""), ("ü." + "ü" * 200, "")])
def test_a_long_name_behind_a_full_stop_is_no_suffix(monkeypatch, name, suffix):
    monkeypatch.setattr(objects, "read", lambda uri, file: None)
    with copies.local_copy(f"s3://b/music/{name}") as path:
        assert path.suffix == suffix
