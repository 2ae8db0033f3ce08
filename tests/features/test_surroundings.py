"""What passes by itself is never the file's fault, and no file gets the answer to another one."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading

import faults
import numpy as np
import pytest
import synth

from genrebeam.features import errors
from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import is_transient
from genrebeam.features.isolated import IsolatedExtractor
from genrebeam.features.limits import ExtractLimits

FRONT_END = FrontEnd()
HEARING = """
import json, sys
from genrebeam.features.config import FrontEnd
from genrebeam.features.isolated import IsolatedExtractor
extractor = IsolatedExtractor(FrontEnd(), tag_reader="genrebeam.pipelines.tags.read:tags_in")
for path in sys.argv[1:]:
    try:
        said = extractor.extract(path)[1].duration_s
    except Exception as error:
        said = [type(error).__name__, str(error)]
    print(json.dumps(said), flush=True)
"""


@pytest.fixture
def extractor():
    extractor = IsolatedExtractor(FRONT_END, ExtractLimits(stall_s=60.0))
    yield extractor
    extractor.close()


def hear_elsewhere(*paths, env=None, before="", timeout_s=120):
    command = [sys.executable, "-c", before + HEARING, *map(str, paths)]
    done = subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_tree_says_what_passes():
    assert {"UnreadableFile", "DecoderKilled", "NotEnoughMemory", "WriteFailed"} == {
        name
        for name in ("UnreadableFile", "DecoderKilled", "NotEnoughMemory", "WriteFailed", "NotAudio", "DecoderCrashed")
        if is_transient(name)
    }
    assert not any(map(is_transient, ("", "is_transient", "BrokenTag", "DecoderUnavailable", "annotations")))


@pytest.mark.parametrize("error", faults.ERRORS)
@pytest.mark.parametrize("calls", ["open", "stat", "read"])
def test_what_the_system_refuses_passes(tmp_path, error, calls):
    env = faults.preloaded(tmp_path / "faults", error=error, calls=calls, path="/music/")
    songs = [synth.write(tmp_path / "music" / f"a.{suffix}", synth.music(3.0, seed=1)) for suffix in ("mp3", "m4a")]
    for name, message in hear_elsewhere(*songs, env=env):
        assert name == "UnreadableFile"
        assert os.strerror(getattr(errno, error)) in message


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "wav", "m4a", "wv"])
def test_a_disk_that_fails_on_the_way_gives_no_half_answer(tmp_path, suffix):
    sound = synth.music(60.0, seed=1, channels=2)
    song = synth.write(tmp_path / "music" / f"a.{suffix}", sound)
    half = song.stat().st_size // 2
    env = faults.preloaded(tmp_path / "faults", error="EIO", calls="read", path="/music/", after_bytes=half)
    ((name, _),) = hear_elsewhere(song, env=env)
    assert name == "UnreadableFile"
    os.unlink(env["FAULT_SWITCH"])
    (duration_s,) = hear_elsewhere(song, env=env)
    assert duration_s == pytest.approx(60, abs=0.2)


def slow(seconds=3600.0):
    """Sound that takes a while to decode, quickly made."""
    piece = synth.music(10.0, seed=1)
    return np.tile(piece, (-(-int(seconds) // 10), 1))[: int(seconds * 22_050)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_decoder_killed_once_is_another_try_and_killed_twice_no_verdict(extractor, tmp_path, how):
    song = synth.write(tmp_path / "long.flac", slow())
    extractor.extract(synth.write(tmp_path / "short.wav", synth.music(2.0, seed=1)))
    with faults.kill_decoders(os.getpid(), times=1, how=how, after_s=0.8) as killed:
        assert extractor.extract(song)[1].duration_s == pytest.approx(3600)
    assert len(killed) == 1
    with (
        faults.kill_decoders(os.getpid(), times=2, how=how, after_s=0.8) as killed,
        pytest.raises(errors.DecoderKilled) as caught,
    ):
        extractor.extract(song)
    assert len(killed) == 2
    assert how.name in str(caught.value)


def test_a_decoder_that_waits_for_a_disk_passes(tmp_path):
    extractor = IsolatedExtractor(FRONT_END, ExtractLimits(stall_s=1.0), function="misbehave:misbehave")
    with pytest.raises(errors.DecoderStalled):
        extractor.extract(tmp_path / "stall")
    extractor.close()


def test_without_any_decoder_there_is_no_verdict(tmp_path):
    song = synth.write(tmp_path / "a.wav", synth.music(2.0, seed=1))
    limit = "import resource, numpy, soundfile; resource.setrlimit(resource.RLIMIT_AS, (60 << 20, -1))\n"
    before = "from genrebeam.features.isolated import IsolatedExtractor\n" + limit
    ((name, message),) = hear_elsewhere(song, before=before)
    assert name == "DecoderUnavailable"
    assert not issubclass(errors.DecoderUnavailable, errors.TrackError)
    assert "cannot be started" in message


def test_less_memory_than_a_track_may_use_is_enough_for_most(tmp_path):
    song = synth.write(tmp_path / "a.wav", synth.music(2.0, seed=1))
    assert hear_elsewhere(song, before="import resource; resource.setrlimit(resource.RLIMIT_AS, (2 << 30,) * 2)\n") == [
        pytest.approx(2.0)
    ]


def test_a_system_that_refuses_the_limit_hears_without_it(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import resource\nreal = resource.setrlimit\ndef setrlimit(what, limits):\n"
        "    if what == resource.RLIMIT_AS: raise ValueError('current limit exceeds maximum limit')\n"
        "    return real(what, limits)\nresource.setrlimit = setrlimit\n"
    )
    song = synth.write(tmp_path / "a.wav", synth.music(2.0, seed=1))
    assert hear_elsewhere(song, env={"PYTHONPATH": str(tmp_path)}) == [pytest.approx(2.0)]


def test_after_an_interruption_the_next_file_gets_its_own_answer(extractor, tmp_path):
    long, short = (synth.write(tmp_path / f"{s}.flac", slow(s)) for s in (3600.0, 3.0))
    extractor.extract(short)
    former = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            extractor.extract(long)
    finally:
        signal.signal(signal.SIGALRM, former)
    assert [extractor.extract(short)[1].duration_s for _ in range(2)] == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_error_while_a_file_is_filled_costs_that_file(tmp_path, error):
    extractor = IsolatedExtractor(FRONT_END, ExtractLimits(coverage_s=10))
    good, hole = synth.write(tmp_path / "a.wav", slow(30.0)), tmp_path / "hole"
    hole.touch()
    os.truncate(hole, good.stat().st_size)

    def fill(start, stop):
        raise error

    with pytest.raises(errors.UnreadableFile if isinstance(error, OSError) else ZeroDivisionError):
        extractor.extract(hole, fill)
    assert [extractor.extract(good)[1].duration_s for _ in range(2)] == pytest.approx([30.0, 30.0])
    extractor.close()


def test_threads_take_turns(extractor, tmp_path):
    songs = [synth.write(tmp_path / f"{s}.flac", slow(s)) for s in (2.0, 60.0, 3.0, 90.0)]
    heard = {}

    def hear(song):
        heard[song] = [round(extractor.extract(song)[1].duration_s) for _ in range(4)]

    threads = [threading.Thread(target=hear, args=[song]) for song in songs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {song: [round(float(song.stem))] * 4 for song in songs}


FORKING = """
import os, sys, threading
from genrebeam.features.config import FrontEnd
from genrebeam.features.isolated import IsolatedExtractor
short, long = sys.argv[1:]
extractor = IsolatedExtractor(FrontEnd())
def rounds(path):
    return [round(extractor.extract(path)[1].duration_s) for _ in range(4)]
rounds(short)
busy = threading.Thread(target=rounds, args=[long])  # holds the lock while this process forks
busy.start()
pid = os.fork()
if pid == 0:
    os._exit(0 if rounds(short) == [3] * 4 else 1)
assert rounds(long) == [90] * 4
busy.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_fork_hears_with_a_decoder_of_its_own(tmp_path):
    songs = [synth.write(tmp_path / f"{s}.flac", slow(s)) for s in (3.0, 90.0)]
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING, *songs], check=True, timeout=120)


def test_closing_ends_a_decode_at_once(extractor, tmp_path):
    long = synth.write(tmp_path / "long.flac", slow())
    extractor.extract(synth.write(tmp_path / "short.wav", synth.music(2.0, seed=1)))
    threading.Timer(0.1, extractor.close).start()
    with pytest.raises(errors.DecoderKilled, match="closed"):
        extractor.extract(long)
