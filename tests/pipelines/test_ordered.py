"""Rows come in the order of Python's strings, however they were spread over tables and parts."""

import random

import pyarrow as pa

from pipelines.dataset import ordered


def test_rows_come_in_order_whatever_the_parts(monkeypatch):
    monkeypatch.setattr(ordered, "_PART", 40)
    monkeypatch.setattr(ordered, "_GROUP", 7)
    chance = random.Random(1)
    names = list({"".join(chance.choices("aZ é中\uffee\U0001f600", k=3)) for _ in range(300)})
    parts = [names[at : at + 13] for at in range(0, len(names), 13)]
    tables = [pa.table({"track_id": part, "more": [[name] for name in part]}) for part in parts]
    count, rows = ordered.in_order(tables)
    assert count == len(names)
    assert list(rows) == [{"track_id": name, "more": [name]} for name in sorted(names)]


def test_no_rows_are_no_rows():
    count, rows = ordered.in_order([])
    assert (count, list(rows)) == (0, [])
