"""Pages without a browser: what goes wrong is a sentence, and an empty catalog is no fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from genrebeam.features.errors import LedgerError
from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.dataset.dataset import Dataset

testing = pytest.importorskip(
    "streamlit.testing.v1", reason="SKIPPED: the application, for want of it (pip install 'genrebeam[app]')"
)
MAIN = Path(__file__).parents[2] / "app" / "main.py"


class NoHearing:
    labels = ("rock", "jazz")


@pytest.fixture
def visit(tmp_path):
    from genrebeam.app.catalog import Catalog
    from genrebeam.app.served import Served, serve

    dataset = Dataset.at(tmp_path)
    dataset.add_rejects("run-1", [Rejection(Track("/a.mp3", "a.mp3", 1, 0.0), "extract", "Silent", "m")])
    catalog = Catalog(tmp_path)

    def visit():
        serve(Served(NoHearing(), catalog))
        return testing.AppTest.from_file(str(MAIN), default_timeout=60).run(), catalog

    return visit


def test_a_catalog_of_which_nothing_was_heard_says_so(visit):
    page, _ = visit()
    assert "Nothing was heard here" in page.info[0].value and not page.exception


def test_numbers_of_an_empty_catalog_are_zeros(visit):
    from genrebeam.app.catalog import numbers

    found = numbers(visit()[1].view())
    assert (found.tracks, found.hours, found.said, sum(found.confidence)) == (0, 0.0, 0, 0)


@pytest.mark.parametrize("error", [LedgerError("/out: not readable; restore it"), RuntimeError("strange")])
def test_what_goes_wrong_is_a_sentence(visit, monkeypatch, error):
    from genrebeam.app.catalog import Catalog

    def fail(self):
        raise error

    monkeypatch.setattr(Catalog, "view", fail)
    page, _ = visit()
    assert str(error).split(";")[0] in page.error[0].value.replace("\\", "") and not page.exception
