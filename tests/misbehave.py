"""Decoders that do what bad decoders do; a child process imports them by these names."""

import ctypes
import time

import numpy as np

from genrebeam.features.extract import stream_log_mel
from genrebeam.features.schema import FileTags
from genrebeam.pipelines.tags import player


def misbehave(path, front_end, limits):
    """Stands in for the decoder in the child process: what it does depends on the file's name."""
    yield np.ones((5, 128), np.uint8)
    _misbehave(path)
    if "bug" in path:
        raise ZeroDivisionError("a surprise")
    if "chatty" in path:
        print("libraries print what they like", flush=True)
    yield from stream_log_mel(path, front_end, limits)


def looking():
    """Stands in for FFmpeg where it gives its opinion."""

    def look(files):
        _misbehave(files[0][1])
        yield from player.looking()(files)

    return look


def _misbehave(path):
    if "segfault" in path:
        ctypes.string_at(0)
    if "hang" in path:
        while True:
            pass
    if "stall" in path:
        time.sleep(3600)
    if "bomb" in path:
        hoard = []
        while True:
            hoard.append(np.empty(1 << 24))
    if "exit" in path:
        raise SystemExit(3)


def two_genres(file):
    return FileTags(("Jazz", "Bebop"), ("Jazz",), "Ella")


def no_such_tags(file):
    raise KeyError("a tag parser's surprise")
