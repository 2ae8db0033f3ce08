"""Waves commit, halve what fails, and give up on one item only."""

import pytest

from features.errors import UsageError
from pipelines.engine.waves import EngineError, Staging, last_line, work_off


class Work:
    def __init__(self, poison=(), flaky=()):
        self.done, self.given_up, self.sizes = [], [], []
        self.poison, self.flaky = set(poison), set(flaky)

    def run_wave(self, items, name):
        self.sizes.append(len(items))
        if self.poison & set(items):
            raise RuntimeError("Channel closed prematurely.")
        if self.flaky & set(items):
            self.flaky -= set(items)
            raise RuntimeError("once")
        self.done += items

    def go(self, items, first_wave=4):
        work_off(
            items, self.run_wave, lambda i, e: self.given_up.append(i), first_wave=first_wave, wave_s=0, largest_wave=9
        )


def test_everything_is_done_once_and_in_order():
    work = Work()
    work.go(list(range(10)))
    assert work.done == list(range(10))
    assert work.sizes == [4, 4, 2]


def test_nothing_to_do_starts_nothing():
    work = Work()
    work.go([])
    assert work.sizes == []


def test_a_wave_that_fails_once_is_tried_again_whole():
    work = Work(flaky={2})
    work.go(list(range(4)))
    assert (work.done, work.sizes, work.given_up) == ([0, 1, 2, 3], [4, 4], [])


@pytest.mark.parametrize("poison", [0, 1, 2, 3, 5, 9])
def test_an_item_that_kills_its_worker_costs_itself_only(poison):
    work = Work(poison={poison})
    work.go(list(range(10)))
    assert work.given_up == [poison]
    assert work.done == [i for i in range(10) if i != poison]


def test_when_everything_fails_it_ends_soon():
    work = Work(poison=set(range(1000)))
    with pytest.raises(EngineError, match=r"whatever the track: .*Channel closed"):
        work.go(list(range(1000)))
    assert len(work.sizes) < 20


def test_a_users_mistake_is_not_retried():
    calls = []

    def run_wave(items, name):
        calls.append(name)
        raise UsageError("no")

    with pytest.raises(UsageError):
        work_off([1, 2], run_wave, lambda i, e: None, first_wave=2, wave_s=1, largest_wave=2)
    assert len(calls) == 1


def test_waves_grow_towards_their_time():
    sizes = []
    work_off(
        list(range(500)),
        lambda items, name: sizes.append(len(items)),
        lambda i, e: None,
        first_wave=10,
        wave_s=60,
        largest_wave=200,
    )
    assert sizes == [10, 200, 200, 90]


def test_only_committed_files_are_where_readers_look(tmp_path):
    staging = Staging(tmp_path, "run")
    folder = staging.open("w0001", ["results"])
    (folder / "results" / "a.parquet").write_text("1")
    assert not (tmp_path / "results").exists()
    assert staging.commit(folder, ["results"]) == {"results": [tmp_path / "results" / "a.parquet"]}
    (staging.open("w0002", ["results"]) / "results" / "half.parquet").write_text("2")
    Staging(tmp_path, "next run").close()  # what a killed run left goes
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_the_last_line_of_a_beam_error_is_what_happened():
    error = RuntimeError(
        "Error received from SDK harness for instruction 7: Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\n    raise OSError(28)\n'
        "OSError: [Errno 28] No space left on device [while running 'Write results']\n"
    )
    assert last_line(error) == "OSError: [Errno 28] No space left on device"
