"""A decoder opens one file and nothing else: no socket, no second file, whatever the file's text asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tagfiles import PNG

SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nSECOND\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S">'
    '<Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="9"><BaseURL>SECOND</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>"
)
TEXTS = {
    "sdp": SDP,
    "hls": HLS,
    "dash": DASH,
    "concat": "ffconcat version 1.0\nfile SECOND\n",
    "playlist": "[playlist]\nFile1=SECOND\nNumberOfEntries=1\n",
}
# Audit hooks see Python's own calls; FFmpeg's and libsndfile's are in the list of descriptors after each of them.
CHILD = """
import os, sys
from genrebeam.features.config import FrontEnd
from genrebeam.features.extract import extract
from genrebeam.features.errors import TrackError
import av, soundfile
def links():
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    return found
before = links()
import threading, time
seen, stop = set(), False
def watch():
    while not stop:
        seen.update(links())
watcher = threading.Thread(target=watch); watcher.start()
try:
    extract(sys.argv[1], FrontEnd())
    print("heard")
except TrackError as error:
    print(type(error).__name__)
stop = True
watcher.join()
new = {link for link in seen - before if not link.startswith("/proc")} - {os.path.realpath(sys.argv[1])}
print(sorted(link for link in new if link.startswith("socket:") or "second" in link))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("kind", sorted(TEXTS))
def test_nothing_else_is_opened(kind: str, tmp_path: Path) -> None:
    second = tmp_path / "second.mp3"
    second.write_bytes(b"\xff\xfb\x90\x00" + bytes(413))
    path = tmp_path / "x.mp3"
    path.write_text(TEXTS[kind].replace("SECOND", str(second)))
    refused(path)


def refused(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["NotAudio", "[]"], done.stderr


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("name", ["second%d.mp3", "second1.mp3", "second%03d.png", "second*.flac"])
def test_an_image_sequence_named_as_audio_is_one_file(name: str, tmp_path: Path) -> None:
    for number in range(1, 4):
        for suffix in ("mp3", "png", "flac"):
            (tmp_path / f"second{number}.{suffix}").write_bytes(PNG)
            (tmp_path / f"second{number:03d}.{suffix}").write_bytes(PNG)
    (tmp_path / name).write_bytes(PNG)
    refused(tmp_path / name)
