"""Manifests as spreadsheets and Spark write them, and the CSV export, which is one of them."""

import csv
import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tagfiles

from genrebeam.features.errors import UsageError
from genrebeam.features.schema import Track
from genrebeam.pipelines.dataset.corrections import correct
from genrebeam.pipelines.dataset.dataset import RESULTS_DIR, Dataset
from genrebeam.pipelines.dataset.export import export
from genrebeam.pipelines.library.discover import discover, roots_of


@pytest.fixture
def folder(tmp_path):
    for name in ("Jóga.flac", "Plain.flac", "=1+1.flac"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def ids(manifest):
    found = discover([str(manifest)])
    assert found.rejections == ()
    return [track.track_id for track in found.tracks]


ROWS = "uri{0}track_id\r\nJóga.flac{0}Jóga.flac\r\nPlain.flac{0}Plain.flac\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_of_any_spreadsheet_is_read(folder, encoding, delimiter):
    (folder / "list.csv").write_bytes(ROWS.format(delimiter).encode(encoding))
    assert ids(folder / "list.csv") == ["Jóga.flac", "Plain.flac"]


def test_the_line_that_names_the_delimiter_is_no_header(folder):
    (folder / "list.csv").write_text("sep=;\n" + ROWS.format(";"), encoding="utf-8")
    assert ids(folder / "list.csv") == ["Jóga.flac", "Plain.flac"]


def test_a_long_cell_does_not_matter(folder):
    (folder / "list.csv").write_text(f"uri,notes\nPlain.flac,{'x' * 300_000}\n")
    assert ids(folder / "list.csv") == ["Plain.flac"]


def test_a_table_without_uri_is_named(folder):
    (folder / "list.csv").write_text("name;id\nPlain.flac;1\n")
    with pytest.raises(UsageError, match="needs a column `uri`; this one has name, id"):
        discover([str(folder / "list.csv")])


@pytest.mark.parametrize(
    ("uris", "track_ids", "expected"),
    [
        (["Plain.flac"], [7], ["7"]),
        (["Plain.flac", "Jóga.flac"], [7.0, None], ["7", "Jóga.flac"]),
        (["Plain.flac", "Jóga.flac"], [float("nan"), float("nan")], ["Jóga.flac", "Plain.flac"]),
        ([b"Plain.flac", "Jóga.flac".encode()], [None, None], ["Jóga.flac", "Plain.flac"]),
        (["Plain.flac", None], ["a", "b"], ["a"]),
    ],
)
def test_parquet_cells_of_other_types_are_read(folder, uris, track_ids, expected):
    pq.write_table(pa.table({"uri": uris, "track_id": track_ids}), folder / "list.parquet")
    assert ids(folder / "list.parquet") == expected


def test_a_folder_of_parquet_is_a_manifest_and_no_library(folder):
    spark = folder / "list.parquet"
    spark.mkdir()
    for number, name in enumerate(("Plain.flac", "Jóga.flac")):
        pq.write_table(pa.table({"uri": [str(folder / name)]}), spark / f"part-{number:05d}.snappy.parquet")
    (spark / "_SUCCESS").touch()
    assert [name.rpartition("/")[2] for name in ids(spark)] == ["Jóga.flac", "Plain.flac"]
    assert roots_of([str(spark)]) == set()


def test_names_are_found_with_accents_apart(folder):
    (folder / "list.txt").write_text("Jo\u0301ga.flac\n", encoding="utf-8")
    assert ids(folder / "list.txt") == ["Jóga.flac"]


def test_the_csv_holds_no_formula_and_is_a_manifest(folder):
    dataset = Dataset.at(folder / "out")
    tracks = {
        Track(str(folder / name), name, 1, 0.0): [("rock", 0.5)] for name in ("Jóga.flac", "=1+1.flac", "Plain.flac")
    }
    now = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
    rows = tagfiles.result_rows(tracks, fingerprint="f", when=now)
    dataset.add(RESULTS_DIR, "r", [row | {"genre_before": ["=1+1", "@SUM(1)"], "title": "-2+3"} for row in rows])
    correct(dataset, "Plain.flac", "+Zouk")
    with open(path := export(dataset, "csv"), encoding="utf-8", newline="") as file:
        assert file.read(1) == "\ufeff"
    with open(path, encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert not [cell for row in table for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    assert "chunk_starts_s" not in table[0]
    assert [row["correction"] for row in table] == ["", "", "'+Zouk"]
    assert ids(path) == ["=1+1.flac", "Jóga.flac", "Plain.flac"]
