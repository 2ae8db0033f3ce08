"""Rows come in the order of Python's strings, however they were spread over tables and parts."""

import random

import pyarrow as pa

from genrebeam.pipelines.dataset import ordered


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


def test_rows_of_one_track_come_by_age_and_few_bytes_are_sorted_at_a_time(monkeypatch):
    monkeypatch.setattr(ordered, "_PART_BYTES", 1000)
    wanted = [(f"track {number:02d}", at, bytes(100)) for number in range(20) for at in range(5)]
    mixed = random.Random(2).sample(wanted, len(wanted))
    names = ("track_id", "at", "former")
    tables = [pa.table(list(zip(*mixed[at : at + 3], strict=True)), names) for at in range(0, len(mixed), 3)]
    written = []
    write = ordered.pq.write_table
    monkeypatch.setattr(
        ordered.pq, "write_table", lambda part, *a, **k: (written.append(part.nbytes), write(part, *a, **k))
    )
    count, rows = ordered.in_order(tables, ("track_id", "at"))
    assert count == len(wanted)
    assert [tuple(row.values()) for row in rows] == wanted
    assert max(written) < 2000


def test_no_rows_are_no_rows():
    count, rows = ordered.in_order([])
    assert (count, list(rows)) == (0, [])
