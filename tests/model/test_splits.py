"""Splits depend on the artist alone."""

import collections
import subprocess
import sys

import pytest

from genrebeam.model import splits

SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


def test_split_is_the_same_in_every_process():
    code = (
        "from genrebeam.model.splits import split_of; print([split_of(f'a{i}', {'x': .5, 'y': .5}) for i in range(50)])"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1
    assert runs.pop().count("x") in range(15, 36)


def test_shares_are_kept():
    counts = collections.Counter(splits.split_of(f"artist {i}", SHARES) for i in range(5000))
    assert counts["train"] / 5000 == pytest.approx(0.8, abs=0.03)
    assert counts["valid"] / 5000 == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("other", ["the beatles", "  The  Beatles ", "BEATLES"])
def test_spellings_of_one_artist_stay_together(other):
    assert splits.position(other) == splits.position("The Beatles")


def test_folds_partition_and_do_not_follow_the_split():
    folds = collections.Counter(splits.fold_of(f"artist {i}", 5) for i in range(2000))
    assert set(folds) == set(range(5))
    assert min(folds.values()) > 300
    in_valid = [
        splits.fold_of(f"artist {i}", 5) for i in range(2000) if splits.split_of(f"artist {i}", SHARES) == "valid"
    ]
    assert len(set(in_valid)) == 5


@pytest.mark.parametrize("shares", [{}, {"train": -1.0, "valid": 2.0}, {"train": 0.0}])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="shares"):
        splits.split_of("a", shares)
