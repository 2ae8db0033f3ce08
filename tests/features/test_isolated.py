"""A decoder that crashes, hangs or eats the memory costs one track, and the next one is heard."""

import numpy as np
import pytest
import synth

from genrebeam.features import errors
from genrebeam.features.config import FrontEnd
from genrebeam.features.extract import extract
from genrebeam.features.isolated import IsolatedExtractor
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.schema import FileTags

FRONT_END = FrontEnd()


@pytest.fixture
def extractor(request):
    # Only what hangs is waited for in vain; whatever answers may be slow on a busy machine.
    hangs = "hang" in request.node.name
    limits = ExtractLimits(stall_s=1.0 if hangs else 60.0, memory_bytes=2 << 30)
    extractor = IsolatedExtractor(FRONT_END, limits, function="misbehave:misbehave")
    yield extractor
    extractor.close()


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("segfault", errors.DecoderCrashed, "SIGSEGV"),
        ("hang", errors.DecoderHung, "1 s"),
        ("bomb", errors.DecoderOutOfMemory, "2048 MiB"),
        ("exit", errors.DecoderCrashed, "exit code 3"),
        ("bug", errors.DecodeFailed, "ZeroDivisionError: a surprise"),
    ],
)
def test_a_bad_track_costs_itself_only(extractor, tmp_path, name, error, says):
    good = synth.write(tmp_path / "good.wav", synth.music(3.0, seed=1))
    with pytest.raises(error, match=says):
        extractor.extract(tmp_path / name)
    levels, info, _ = extractor.extract(good)
    assert info.duration_s == pytest.approx(3.0)
    assert len(levels) == 5 + 65


def test_what_libraries_print_does_not_end_up_in_the_levels(extractor, tmp_path):
    levels, *_ = extractor.extract(synth.write(tmp_path / "chatty.wav", synth.music(3.0, seed=1)))
    assert len(levels) == 5 + 65


def test_the_child_hears_what_the_function_hears_itself(tmp_path):
    extractor = IsolatedExtractor(FRONT_END)
    for suffix in ("wav", "m4a"):
        path = synth.write(tmp_path / f"x.{suffix}", synth.music(5.0, seed=4, channels=2))
        levels, info, tags = extractor.extract(path)
        expected, expected_info = extract(path, FRONT_END)
        np.testing.assert_array_equal(levels, expected)
        assert info == expected_info
        assert tags == FileTags()
    with pytest.raises(errors.UnreadableFile, match="No such file"):
        extractor.extract(tmp_path / "missing")
    extractor.close()


@pytest.mark.parametrize(
    ("reader", "tags"),
    [("two_genres", FileTags(("Jazz", "Bebop"), ("Jazz",), "Ella")), ("no_such_tags", FileTags())],
)
def test_tags_are_read_in_the_child_and_never_cost_the_track(tmp_path, reader, tags):
    extractor = IsolatedExtractor(FRONT_END, tag_reader=f"misbehave:{reader}")
    path = synth.write(tmp_path / "x.wav", synth.music(2.0, seed=4))
    assert extractor.extract(path)[2] == tags
    extractor.close()
