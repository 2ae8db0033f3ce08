"""A catalog lives: files are renamed, moved, deleted and come back, and drives are not mounted."""

import datetime as dt
import os
import shutil

import pyarrow.parquet as pq
import pytest
import tagfiles
from rich.console import Console

from genrebeam.features.errors import UsageError
from genrebeam.features.schema import Track
from genrebeam.pipelines.apply.options import ApplyOptions
from genrebeam.pipelines.dataset.corrections import correct, read_corrections
from genrebeam.pipelines.dataset.dataset import RESULTS_DIR
from genrebeam.pipelines.dataset.export import export
from genrebeam.pipelines.dataset.ledger import newest_results
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.jobs import tag
from genrebeam.pipelines.jobs.apply import apply_results, undo_results
from genrebeam.pipelines.jobs.report import summarise
from genrebeam.pipelines.library.samples import sample_of_track
from genrebeam.pipelines.tags.policy import TagPolicy
from genrebeam.pipelines.tags.read import read_genres

QUIET = Console(quiet=True)
WRITE = ApplyOptions(tags=TagPolicy(policy="overwrite", min_confidence=0.0, max_unknown=1.0), yes=True, quiet=True)


def hear(job: tag.Job) -> None:
    """In place of the engine: all tracks are blues."""
    plan = pq.read_table(os.path.join(str(job.dataset), job.plan)).to_pylist()
    tracks = {Track(**row): [("blues", 0.9)] for row in plan}
    now = dt.datetime.now(dt.timezone.utc)
    rows = tagfiles.result_rows(tracks, fingerprint=job.bundle.fingerprint, when=now, run_id=job.run_id)
    more = [{"sample": sample_of_track(track), "vote": "mean"} for track in tracks]
    job.dataset.add(RESULTS_DIR, job.run_id, (row | one for row, one in zip(rows, more, strict=True)))


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Four songs in three folders, two of them of the same second, tagged."""
    monkeypatch.setattr(tag, "run_pipeline", hear)
    monkeypatch.setattr(Engine, "check", lambda self, **_: None)
    root = tmp_path / "music"
    for number, name in enumerate(("A/1.flac", "A/2.flac", "B/3.mp3", "C/4.mp3")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        made = tagfiles.make(tmp_path, name[-4:].strip("."), f"made{number}")
        tagfiles.fill(made, name[-4:].strip("."), f"Rock {number}")
        made.rename(root / name)
        os.utime(root / name, ns=(10**18, 10**18 + number * 1_234_567_000))
    run(root)
    return root


def run(*libraries, out=None):
    out = out or libraries[0].parent / "out"
    options = tag.TagOptions(tuple(map(str, libraries)), str(out), None, Engine("Paper", shared_filesystem=True))
    return tag.tag(options, QUIET)


def names(library):
    return newest_results(library.parent / "out", ["track_id"])["track_id"].to_pylist()


def genres_of(path):
    return tuple(read_genres(path))


ALL = ["A/1.flac", "A/2.flac", "B/3.mp3", "C/4.mp3"]


def test_a_deleted_file_leaves_csv_report_and_apply_and_is_back_at_once(library):
    out = library.parent / "out"
    (library / "B/3.mp3").rename(library.parent / "3.mp3")
    report = run(library)
    assert (report.gone, report.renamed, report.tagged) == (1, 0, 0)
    left = [name for name in ALL if name != "B/3.mp3"]
    assert names(library) == left
    assert summarise(out).tracks == 3
    assert summarise(out).rejects == []
    with open(export(out, "csv"), newline="", encoding="utf-8-sig") as file:
        assert len(file.readlines()) == 4
    done = apply_results(out, WRITE, console=QUIET)
    assert (done.written, done.failed) == (3, 0)
    again = run(library)
    assert (again.gone, again.done_before) == (0, 3)
    (library.parent / "3.mp3").rename(library / "B/3.mp3")
    back = run(library)
    assert (back.tagged, back.done_before) == (0, 4)
    assert names(library) == ALL


def test_a_renamed_file_takes_result_correction_and_journal_along(library):
    out = library.parent / "out"
    correct(out, "A/1.flac", "Zouk", by="Ada")
    apply_results(out, WRITE, console=QUIET)
    (library / "D").mkdir()
    (library / "A/1.flac").rename(library / "D/one.flac")
    report = run(library)
    assert (report.renamed, report.gone, report.done_before, report.tagged) == (1, 0, 4, 0)
    assert names(library) == ["A/2.flac", "B/3.mp3", "C/4.mp3", "D/one.flac"]
    assert {name: (said.genre, said.by) for name, said in read_corrections(out).items()} == {
        "D/one.flac": ("Zouk", "Ada")
    }
    assert apply_results(out, WRITE, console=QUIET).written == 0
    assert genres_of(library / "D/one.flac") == ("Zouk",)
    undone = undo_results(out, WRITE, console=QUIET)
    assert (undone.written, undone.failed) == (4, 0)
    assert genres_of(library / "D/one.flac") == ("Rock 0",)


def test_a_file_that_is_renamed_twice_and_back_keeps_what_was_said(library):
    out = library.parent / "out"
    for number, (old, new) in enumerate([("A/1.flac", "A/x.flac"), ("A/x.flac", "y.flac"), ("y.flac", "A/1.flac")]):
        (library / old).rename(library / new)
        assert run(library).renamed == 1
        correct(out, new, f"Genre {number}")
    assert names(library) == ALL
    assert {name: said.genre for name, said in read_corrections(out).items()} == {"A/1.flac": "Genre 2"}


def test_all_files_may_be_renamed_at_once(library):
    (library / "A").rename(library / "AA")
    (library / "B").rename(library / "BB")
    (library / "C").rename(library / "CC")
    report = run(library)
    assert (report.renamed, report.gone, report.tagged) == (4, 0, 0)
    assert names(library) == ["AA/1.flac", "AA/2.flac", "BB/3.mp3", "CC/4.mp3"]


def test_another_file_of_the_same_size_and_time_is_not_taken_for_a_renamed_one(library):
    old = library / "B/3.mp3"
    status, data = old.stat(), old.read_bytes()
    (library / "B/new.mp3").write_bytes(data[:-200] + bytes(200))
    os.utime(library / "B/new.mp3", ns=(status.st_mtime_ns, status.st_mtime_ns))
    old.unlink()
    report = run(library)
    assert (report.renamed, report.gone, report.tagged) == (0, 1, 1)


def test_a_copy_beside_the_file_is_a_track_of_its_own(library):
    shutil.copy2(library / "A/1.flac", library / "A/copy.flac")
    report = run(library)
    assert (report.renamed, report.gone, report.tagged) == (0, 0, 1)
    assert names(library) == sorted([*ALL, "A/copy.flac"])


@pytest.mark.parametrize("part", ["A", "A/1.flac", "A/*.flac", "list.txt"])
def test_a_run_over_a_part_of_the_library_buries_nothing(library, part):
    (library / "list.txt").write_text("A/1.flac\n")
    before = names(library)
    assert run(library / part, out=library.parent / "out").gone == 0
    assert set(before) <= set(names(library))


def test_an_empty_or_another_root_buries_nothing(library):
    before = names(library)
    library.rename(library.parent / "away")
    library.mkdir()
    with pytest.raises(UsageError):
        run(library)
    assert names(library) == before
    (library / "notes.txt").write_text("the mount point has a file of its own")
    assert run(library).gone == 0
    assert names(library) == before


def test_what_was_below_a_folder_that_cannot_be_followed_stays(library, tmp_path):
    (tmp_path / "drive").mkdir()
    (library / "B").rename(tmp_path / "drive/B")
    (library / "B").symlink_to(tmp_path / "drive/B")
    assert run(library).gone == 0
    (tmp_path / "drive").rename(tmp_path / "unplugged")
    (library / "C/4.mp3").unlink()
    report = run(library)
    assert (report.gone, report.unlisted) == (1, 1)
    assert names(library) == ["A/1.flac", "A/2.flac", "B/3.mp3"]


def test_a_library_that_moved_and_lost_a_file_has_lost_it(library):
    moved = library.rename(library.parent / "moved")
    (moved / "C/4.mp3").unlink()
    report = run(moved)
    assert (report.gone, report.done_before) == (1, 3)
    assert names(moved) == ALL[:3]


def test_a_file_whose_library_does_not_list_it_any_more_can_still_be_undone(library):
    out = library.parent / "out"
    apply_results(out, WRITE, console=QUIET)
    (library / "B").rename(library / "#recycle")
    run(library)
    (library / "#recycle").rename(library / "B")
    assert undo_results(out, WRITE, console=QUIET).written == 4
    assert genres_of(library / "B/3.mp3") == ("Rock 2",)


def test_undo_in_a_copied_catalog_leaves_the_files_of_the_original(library):
    out = library.parent / "out"
    apply_results(out, WRITE, console=QUIET)
    shutil.copytree(library, library.parent / "music2", copy_function=shutil.copy2)
    shutil.copytree(out, library.parent / "out2")
    run(library.parent / "music2", out=library.parent / "out2")
    undone = undo_results(library.parent / "out2", WRITE, console=QUIET)
    assert (undone.written, undone.failed) == (4, 0)
    assert genres_of(library / "B/3.mp3") == ("Blues",)
    assert genres_of(library.parent / "music2/B/3.mp3") == ("Rock 2",)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(library):
    out = library.parent / "out"
    (library / "A/1.flac").rename(library / "A/one.flac")
    shutil.copy(library / "B/3.mp3", library / "B/new.mp3")
    (library / "C/4.mp3").unlink()
    before = {path: path.stat().st_mtime_ns for path in [library.parent, *library.parent.rglob("*")]}
    engine = Engine("Paper", shared_filesystem=True)
    planned = tag.tag(tag.TagOptions((str(library),), str(out), None, engine, dry_run=True), QUIET)
    assert (planned.found, planned.done_before, planned.renamed, planned.gone) == (4, 3, 1, 1)
    assert planned.to_analyse == 1
    look = ApplyOptions(tags=WRITE.tags, dry_run=True, quiet=True)
    assert apply_results(out, look, console=QUIET).written == 2
    assert undo_results(out, look, console=QUIET).written == 0
    assert {path: path.stat().st_mtime_ns for path in [library.parent, *library.parent.rglob("*")]} == before


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize(
    "on_the_other_disk",
    [lambda ns: ns // 10**9 * 10**9, lambda ns: ns // (2 * 10**9) * 2 * 10**9, lambda ns: ns + 3600 * 10**9],
    ids=["whole seconds", "even seconds", "an hour later"],
)
def test_a_disk_with_coarse_or_shifted_times_is_recognised(library, written, on_the_other_disk):
    out = library.parent / "out"
    for path in library.rglob("*.*"):
        os.utime(path, ns=(1_700_000_001_123_456_000,) * 2)
    run(library)
    if written:
        apply_results(out, WRITE, console=QUIET)
    for path in library.rglob("*.*"):
        os.utime(path, ns=(on_the_other_disk(path.stat().st_mtime_ns),) * 2)
    assert run(library).done_before == 4
    assert apply_results(out, WRITE, console=QUIET).failed == 0
    assert undo_results(out, WRITE, console=QUIET).written == 4


def test_another_time_is_another_version(library):
    path = library / "B/3.mp3"
    for later_ns in (10**9 // 2, 3 * 10**9, 1800 * 10**9, 100 * 3600 * 10**9):
        os.utime(path, ns=(path.stat().st_mtime_ns + later_ns,) * 2)
        assert run(library).done_before == 3
