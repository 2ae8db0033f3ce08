"""After a failed run what is left is launched again; an item that kills its worker costs itself only."""

import pytest

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.engine.attempts import EngineError, last_line, run_until_done


class Work:
    """An engine with two workers that take turns; the rows of a worker that dies are kept but for its last `lost`."""

    def __init__(self, poison=(), kills=(), lost=1):
        self.done, self.given_up, self.launches = [], [], []
        self.poison, self.kills, self.lost = set(poison), set(kills), lost
        self.hands = []

    def launch(self, *, last, without):
        left = [item for item in self.items if item not in {*self.done, *self.given_up, *last, *without}]
        if left or last:
            self.run([*left, *last])

    def launch_alone(self, item):
        self.run([item])

    def run(self, items):
        self.launches.append(list(items))
        for number, item in enumerate(items):
            if item in self.poison or item in self.kills:
                self.kills -= {item}
                self.hands = list(items[number : number + 2])  # the other worker had the next
                del self.done[len(self.done) - min(self.lost, number) :]
                raise RuntimeError("Channel closed prematurely.")
            self.done.append(item)

    def written(self):
        return len(self.done)

    def left_of(self, items):
        return {item for item in items if item not in {*self.done, *self.given_up}}

    def unfinished(self):
        return self.hands

    def give_up_on(self, item, error):
        self.given_up.append(item)

    def go(self, items):
        self.items = items
        run_until_done(self)


def test_all_is_done_in_one_run():
    work = Work()
    work.go(list(range(10)))
    assert work.launches == [list(range(10))]


def test_nothing_to_do_starts_nothing():
    work = Work()
    work.go([])
    assert work.launches == []


def test_a_worker_that_is_killed_from_outside_costs_what_it_had_in_hand_and_no_item():
    work = Work(kills={5})
    work.go(list(range(10)))
    assert work.launches == [list(range(10)), [4, 7, 8, 9, 5, 6]]
    assert sorted(work.done) == list(range(10))
    assert work.given_up == []


@pytest.mark.parametrize("poison", [0, 1, 2, 3, 5, 9])
def test_an_item_that_kills_its_worker_costs_itself_only(poison):
    work = Work(poison={poison})
    work.go(list(range(10)))
    assert work.given_up == [poison]
    assert sorted(work.done) == [i for i in range(10) if i != poison]
    assert len(work.launches) <= 6


def test_several_poisonous_items_are_all_found():
    work = Work(poison={2, 3, 7})
    work.go(list(range(10)))
    assert sorted(work.given_up) == [2, 3, 7]
    assert sorted(work.done) == [0, 1, 4, 5, 6, 8, 9]


def test_when_everything_fails_it_ends_soon():
    work = Work(poison=set(range(1000)))
    with pytest.raises(EngineError, match=r"whatever the track: .*Channel closed"):
        work.go(list(range(1000)))
    assert len(work.launches) <= 8
    assert work.given_up == []  # nobody knows whether it was them


def test_a_failure_that_a_person_can_mend_is_not_tried_again():
    class Mistaken(Work):
        def run(self, items):
            super().run(items)
            raise UsageError("wrong folder")

    work = Mistaken()
    with pytest.raises(UsageError):
        work.go([1, 2])
    assert len(work.launches) == 1


def test_the_last_line_of_a_beam_error_is_the_exception():
    error = RuntimeError(
        "Error received from SDK harness for instruction 7: Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\n    raise OSError(28)\n'
        "OSError: [Errno 28] No space left on device [while running 'Write results']\n"
    )
    assert last_line(error) == "OSError: [Errno 28] No space left on device"
    assert last_line(RuntimeError("")) == "RuntimeError"
