"""A full disk, and a drive or network that fails while results are read: nothing good is thrown away."""

import errno

import pytest

from genrebeam.features.errors import LedgerError, Unreachable
from genrebeam.pipelines.dataset.dataset import RESULTS_DIR, Dataset
from genrebeam.pipelines.storage.folders import folder_at


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_folder(tmp_path, number):
    with pytest.raises(Unreachable, match=str(tmp_path / "out")), folder_at(tmp_path / "out").new("x"):
        raise OSError(number, "no space")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_network_fault_is_no_reason_to_move_good_data_away():
    class Flaky:
        uri = "s3://b/out"

        def __truediv__(self, name):
            return self

        def open(self, name):
            raise OSError(errno.EIO, "Connection reset")

    with pytest.raises(LedgerError, match="leave it where it is") as caught:
        Dataset(Flaky()).read(RESULTS_DIR, "x.parquet")
    assert "move" not in str(caught.value)
