"""Nothing happens to a file that was not asked for, whatever the file system and other programs do."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tagfiles
from commandline import ROOT, rows_of

from genrebeam.pipelines.apply import batch as changes
from genrebeam.pipelines.apply.options import ApplyOptions
from genrebeam.pipelines.dataset import journal
from genrebeam.pipelines.dataset.keys import keys_of
from genrebeam.pipelines.dataset.ledger import Ledger
from genrebeam.pipelines.dataset.schema import JOURNAL
from genrebeam.pipelines.jobs import apply
from genrebeam.pipelines.jobs.apply import ApplyReport
from genrebeam.pipelines.library.discover import discover
from genrebeam.pipelines.tags import writer
from genrebeam.pipelines.tags.change import with_genre
from genrebeam.pipelines.tags.parse import parse
from genrebeam.pipelines.tags.read import TagValues, read_genres


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    return folder


@pytest.fixture
def song(music: Path, tmp_path: Path) -> Path:
    """An MP3 with a genre, in which blues was heard."""
    path = tagfiles.make(music, "mp3", "song")
    tagfiles.fill(path, "mp3", "Rock")
    tagfiles.results(tmp_path, {path: [("blues", 0.9)]}, root=music)
    return path


def assert_left_alone(report: ApplyReport, output_dir: Path, path: Path, before: bytes, error: str) -> None:
    assert path.read_bytes() == before
    assert dict(report.errors) == {error: 1}
    (row,) = rows_of(output_dir, "rejects")
    assert (row["stage"], row["error"]) == ("apply", error)
    assert str(path) in row["message"]
    assert not list(path.parent.glob(".genrebeam-*"))


def test_owner_mode_times_and_attributes_stay(song: Path, tmp_path: Path) -> None:
    song.chmod(0o640)
    os.utime(song, ns=(1_111_111_111_111_111_111, song.stat().st_mtime_ns))
    try:
        os.setxattr(song, "user.mood", b"odd\0value")
    except OSError:
        pytest.skip("no extended attributes on this file system")
    if os.geteuid() == 0:
        os.chown(song, 1234, 5678)
    before = song.stat()

    assert tagfiles.apply_all(tmp_path).written == 1

    after = song.stat()
    for name in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.st_atime_ns >= 1_111_111_111_111_111_111
    assert os.getxattr(song, "user.mood") == b"odd\0value"


def test_touch_sets_the_time_and_undo_sets_it_back(song: Path, tmp_path: Path) -> None:
    os.utime(song, ns=(10**18, 10**18))
    tagfiles.results(tmp_path, {song: [("blues", 0.9)]}, root=song.parent)
    assert tagfiles.apply_all(tmp_path, touch=True).written == 1
    assert song.stat().st_mtime_ns > 10**18
    assert tagfiles.apply_all(tmp_path, undo=True).written == 1
    assert song.stat().st_mtime_ns == 10**18


def test_a_symbolic_link_stays_one_and_its_target_is_tagged(music: Path, tmp_path: Path) -> None:
    target = tagfiles.make(tmp_path, "flac", "target")
    link = music / "link.flac"
    link.symlink_to("../target.flac")
    tagfiles.results(tmp_path, {link: [("blues", 0.9)]}, root=music)
    assert tagfiles.apply_all(tmp_path).written == 1
    assert os.readlink(link) == "../target.flac"
    assert read_genres(target) == ("Blues",)


def test_two_links_to_one_file_are_one_change(music: Path, tmp_path: Path) -> None:
    path = tagfiles.make(music, "flac", "a")
    (music / "b.flac").symlink_to(path)
    tagfiles.results(tmp_path, {p: [("blues", 0.9)] for p in sorted(music.iterdir())}, root=music)
    report = tagfiles.apply_all(tmp_path)
    assert report.outcomes == {"write": 1, "same": 1}


def test_hard_links_are_left_alone_unless_asked_for(song: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp3"
    other.hardlink_to(song)
    before = song.read_bytes()
    assert_left_alone(tagfiles.apply_all(tmp_path), tmp_path, song, before, "HardLinked")
    assert tagfiles.apply_all(tmp_path, hard_links="break").written == 1
    assert other.read_bytes() == before
    assert read_genres(song) == ("Blues",)


def test_a_read_only_file_is_left_alone(song: Path, tmp_path: Path) -> None:
    song.chmod(0o444)
    assert_left_alone(tagfiles.apply_all(tmp_path), tmp_path, song, song.read_bytes(), "ReadOnly")


def test_a_file_that_changed_since_the_analysis_is_left_alone(song: Path, tmp_path: Path) -> None:
    os.utime(song, (1, 1))
    assert_left_alone(tagfiles.apply_all(tmp_path), tmp_path, song, song.read_bytes(), "ChangedSinceAnalysis")


def test_a_file_that_is_no_longer_audio_is_a_reject(song: Path, tmp_path: Path) -> None:
    song.write_bytes(b"hello")
    assert_left_alone(tagfiles.apply_all(tmp_path), tmp_path, song, b"hello", "NotTaggable")


def test_a_name_that_is_not_utf8(music: Path, tmp_path: Path) -> None:
    path = tagfiles.make(music, "ogg", "song")
    odd = music / os.fsdecode(b"caf\xe9 \n.ogg")
    path.rename(odd)
    tagfiles.results(tmp_path, {odd: [("blues", 0.9)]}, root=music / "..", track_ids=["odd"])
    assert tagfiles.apply_all(tmp_path).written == 1
    assert read_genres(odd) == ("Blues",)
    assert tagfiles.apply_all(tmp_path, undo=True).written == 1
    assert read_genres(odd) == ()


def change_of(path: Path) -> writer.Change:
    with path.open("rb") as file:
        container = parse(file)
        tags = with_genre(container, ["Blues"], {})
        status = os.fstat(file.fileno())
        return writer.Change(
            path=str(path),
            identity=writer.Identity.of(status),
            tags=tuple(tags),
            values=TagValues(("Blues",)),
            splices=tuple(container.splices(tags)),
            temporary=".genrebeam-test.tmp",
            mtime_ns=status.st_mtime_ns,
        )


def test_a_change_between_planning_and_writing_is_noticed(song: Path) -> None:
    change = change_of(song)
    with song.open("ab") as file:
        file.write(b"more")
    before = song.read_bytes()
    with pytest.raises(writer.ChangedMeanwhile, match="another program"):
        writer.write(change)
    assert song.read_bytes() == before


def test_a_change_while_the_copy_is_made_is_noticed(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, verify = change_of(song), writer._verify

    def meddle(*arguments: Any) -> None:
        verify(*arguments)
        other = song.with_name("other")
        shutil.copyfile(song, other)
        other.replace(song)  # same bytes, same size, another file

    monkeypatch.setattr(writer, "_verify", meddle)
    before = song.read_bytes()
    with pytest.raises(writer.ChangedMeanwhile):
        writer.write(change)
    assert song.read_bytes() == before
    assert os.listdir(song.parent) == [song.name]


def test_a_copy_of_somebody_else_is_not_taken_for_ours(song: Path) -> None:
    change = change_of(song)
    other = song.with_name(change.temporary)
    other.write_bytes(b"in the making")
    before = song.read_bytes()
    with pytest.raises(writer.WriteFailed, match="exists"):
        writer.write(change)
    assert (song.read_bytes(), other.read_bytes()) == (before, b"in the making")


def test_a_batch_worked_off_twice_at_once_changes_every_file_once(music: Path, tmp_path: Path) -> None:
    """As runners do when they take a slow worker for a dead one."""
    paths = [tagfiles.make(music, "flac", f"{number}") for number in range(20)]
    tagfiles.results(tmp_path, {path: [("blues", 0.9)] for path in paths}, root=music)
    (batch,) = apply.batches_of_results(tmp_path).batches
    task = apply.new_run(tmp_path, ApplyOptions(yes=True))
    with ThreadPoolExecutor(3) as pool:
        attempts = [pool.submit(changes.work_batch, batch, task) for _ in range(3)]
    errors = {done.error for attempt in attempts for done in attempt.result()}
    assert errors <= {"", "ChangedMeanwhile"}
    assert {read_genres(path) for path in paths} == {("Blues",)}
    assert sorted(os.listdir(music)) == sorted(path.name for path in paths)
    assert tagfiles.apply_all(tmp_path, undo=True).written == 20
    assert {read_genres(path) for path in paths} == {()}


def test_a_file_open_for_writing_elsewhere_is_left_alone(song: Path, tmp_path: Path) -> None:
    with song.open("rb") as probe:
        try:
            fcntl.fcntl(probe, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(probe, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError:
            pytest.skip("no leases on this file system")
    with song.open("r+b"):
        assert_left_alone(tagfiles.apply_all(tmp_path), tmp_path, song, song.read_bytes(), "OpenElsewhere")
    assert tagfiles.apply_all(tmp_path).written == 1


def test_who_reads_the_file_meanwhile_reads_the_old_one_to_its_end(song: Path, tmp_path: Path) -> None:
    before = song.read_bytes()
    with song.open("rb") as reader:
        start = reader.read(100)
        assert tagfiles.apply_all(tmp_path).written == 1
        assert start + reader.read() == before


@pytest.mark.parametrize("where", ["audio", "field", "length"])
def test_a_bad_copy_never_takes_the_place_of_the_original(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    copy = writer._copy

    def bad_copy(source: int, target: int, *arguments: Any) -> None:
        copy(source, target, *arguments)
        size = os.fstat(target).st_size
        if where == "length":
            os.ftruncate(target, size - 1)
        else:
            position = os.pread(source, size, 0).find(b"TPE1") + 12 if where == "field" else size - 2000
            os.pwrite(target, b"\xa5\x5a", position)

    monkeypatch.setattr(writer, "_copy", bad_copy)
    assert_left_alone(tagfiles.apply_all(tmp_path), tmp_path, song, song.read_bytes(), "VerificationFailed")


def test_a_splice_outside_the_tag_is_refused(song: Path) -> None:
    change = change_of(song)
    size = song.stat().st_size
    stray = writer.Splice(size - 10, size, bytes(10))
    with pytest.raises(writer.VerificationFailed, match="no tag's"):
        writer.write(writer.dataclasses.replace(change, splices=(*change.splices, stray)))


_AS_SOMEBODY = """
    import os, resource, sys
    sys.path[:0] = {paths!r}
    from pathlib import Path
    import test_apply_safety as t
    {before}
    report = t.tagfiles.apply_all(Path({output!r}))
    print(dict(report.outcomes), dict(report.errors))
"""


def in_process(output_dir: Path, before: str) -> str:
    """Apply in a process of its own after some statements that cannot be taken back."""
    paths = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/pipelines")]
    script = textwrap.dedent(_AS_SOMEBODY).format(paths=paths, before=before, output=str(output_dir))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_limit_on_file_sizes_leaves_everything_as_it_was(song: Path, tmp_path: Path) -> None:
    song.write_bytes(song.read_bytes() + bytes(300_000))
    small = tagfiles.make(song.parent, "mp3", "small")
    tagfiles.results(tmp_path, {p: [("blues", 0.9)] for p in (small, song)}, root=song.parent)
    before = song.read_bytes()
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    assert in_process(tmp_path, limit) == "{'write': 1, 'failed': 1} {'WriteFailed': 1}"
    assert song.read_bytes() == before
    assert [row["error"] for row in rows_of(tmp_path, "rejects")] == ["WriteFailed"]
    assert sorted(os.listdir(song.parent)) == ["small.mp3", "song.mp3"]
    assert read_genres(small) == ("Blues",)
    assert tagfiles.apply_all(tmp_path).written == 1, "once there is room, the next run finishes"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs")
    try:
        song = tagfiles.make(disk, "mp3", "song")
        song.write_bytes(song.read_bytes() + bytes(900_000))
        tagfiles.results(tmp_path, {song: [("blues", 0.9)]}, root=disk)
        before = song.read_bytes()
        report = tagfiles.apply_all(tmp_path)
        assert_left_alone(report, tmp_path, song, before, "WriteFailed")
        assert f"no space for the changed copy in {disk} (No space left" in rows_of(tmp_path, "rejects")[0]["message"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root")
def test_a_folder_of_somebody_else_leaves_everything_as_it_was() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not below pytest's, which only its owner may enter
        output, music = Path(folder), Path(folder) / "music"
        music.mkdir(mode=0o755)
        song = tagfiles.make(music, "mp3", "song")
        song.chmod(0o666)
        tagfiles.results(output, {song: [("blues", 0.9)]}, root=music)
        output.chmod(0o777)
        before = song.read_bytes()
        # Modules of root's Python are out of reach afterwards, so everything is imported by a dry run.
        become = f"t.tagfiles.apply_all(Path({folder!r}), dry_run=True); os.setgid(65534); os.setuid(65534)"
        assert in_process(output, become) == "{'failed': 1} {'ReadOnly': 1}"
        assert song.read_bytes() == before
        assert os.listdir(music) == [song.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root")
@pytest.mark.parametrize(("mode", "says"), [(0o777, "keep its owner"), (0o1777, "only a file's owner may replace it")])
def test_where_the_owner_is_the_reason_the_message_names_him(mode: int, says: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output, music = Path(folder), Path(folder) / "music"
        music.mkdir()
        song = tagfiles.make(music, "mp3", "song")
        song.chmod(0o666)
        tagfiles.results(output, {song: [("blues", 0.9)]}, root=music)
        output.chmod(0o777)
        music.chmod(mode)
        before = song.read_bytes()
        become = f"t.tagfiles.apply_all(Path({folder!r}), dry_run=True); os.setgid(65534); os.setuid(65534)"
        # At 0777 a dry run, which copies nothing, does not find out.
        assert in_process(output, become) == "{'failed': 1} {'ReadOnly': 1}"
        (row,) = rows_of(output, "rejects")
        assert row["message"].startswith(f"{song}: ") and says in row["message"], row["message"]
        assert "belongs to root" in row["message"] and ".tmp" not in row["message"]
        assert song.read_bytes() == before
        assert os.listdir(music) == [song.name]


def test_copies_that_a_killed_run_left_are_removed_by_the_next(song: Path, tmp_path: Path) -> None:
    tagfiles.apply_all(tmp_path)
    (entry,) = (journal.Entry.from_row(row) for row in journal.read(tmp_path).to_pylist())
    (tmp_path / "applied" / f"{entry.run_id}.json").unlink()  # as if it had been killed
    leftover = song.with_name(entry.temporary)
    leftover.write_bytes(b"half a copy")
    foreign = song.with_name(".genrebeam-of-somebody-else.tmp")
    foreign.write_bytes(b"not in our journal")
    tagfiles.apply_all(tmp_path)
    assert not leftover.exists()
    assert foreign.exists()
    assert json.loads((tmp_path / "applied" / f"{entry.run_id}.json").read_text())["status"] == "killed"


@pytest.mark.parametrize(
    "name", ["id_rsa", "../id_rsa", ".genrebeam-x.tmp", ".genrebeam-" + "0" * 20 + ".tmp/../id_rsa"]
)
def test_a_journal_from_elsewhere_deletes_nothing_but_copies_of_ours(song: Path, tmp_path: Path, name: str) -> None:
    tagfiles.apply_all(tmp_path)
    (file,) = (tmp_path / "applied").glob("*.parquet")
    rows = [row | {"temporary": name} for row in pq.read_table(file).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, JOURNAL), file)
    (mark,) = (tmp_path / "applied").glob("*.json")
    mark.unlink()  # as if it had been killed
    keys = [folder / "id_rsa" for folder in (song.parent, song.parent.parent)]
    for key in (*keys, song.with_name(".genrebeam-x.tmp")):
        key.write_text("secret")
    tagfiles.apply_all(tmp_path)
    assert all(key.exists() for key in (*keys, song.with_name(".genrebeam-x.tmp")))


def test_the_journal_is_on_the_disk_before_a_file_is_touched(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = song.read_bytes(), []

    def look_instead(change: writer.Change) -> None:
        seen.append((len(journal.read(tmp_path)), song.read_bytes() == before))

    monkeypatch.setattr(changes, "write", look_instead)
    tagfiles.apply_all(tmp_path)
    assert seen == [(1, True)]


def test_a_dry_run_leaves_no_trace(song: Path, tmp_path: Path) -> None:

    def look() -> dict[Path, tuple[int, int, int]]:
        return {p: (p.stat().st_ino, p.stat().st_size, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")}

    before = look()
    report = tagfiles.apply_all(tmp_path, dry_run=True)
    assert report.changes == [("song.mp3", ("Rock",), ("Blues",))]
    assert look() == before


def test_a_tagged_file_counts_as_the_version_that_was_analysed(song: Path, tmp_path: Path) -> None:
    first = song.stat()
    assert tagfiles.apply_all(tmp_path, touch=True).written == 1
    now = song.stat()
    assert now.st_mtime_ns != first.st_mtime_ns
    origins = journal.Origins.read(tmp_path)
    old, new = (first.st_size, first.st_mtime_ns // 1000), (now.st_size, now.st_mtime_ns // 1000)
    keys = keys_of(["song.mp3", "song.mp3", "other.mp3"], *zip(new, old, new, strict=True)).tolist()
    assert origins.of(keys) == [keys[1], keys[1], keys[2]]
    assert origins.file_versions(tmp_path).of([keys[1], keys[2]]) == [sorted([old, new]), []]


def test_a_newer_verdict_on_the_same_sound_needs_no_new_analysis(song: Path, tmp_path: Path) -> None:
    """The newer row still has the size and time from before our own tag."""
    rows = pq.read_table(tmp_path / "results" / "run-1.parquet")
    assert tagfiles.apply_all(tmp_path, touch=True).written == 1
    (tmp_path / "results" / "run-1.parquet").unlink()
    tagfiles.results(tmp_path, {song: [("jazz", 0.9)]}, root=song.parent)
    newer = pq.read_table(tmp_path / "results" / "run-1.parquet")
    for name in ("size", "mtime"):
        newer = newer.set_column(newer.schema.get_field_index(name), newer.schema.field(name), rows[name])
    pq.write_table(newer, tmp_path / "results" / "run-1.parquet")
    assert tagfiles.apply_all(tmp_path).written == 1
    assert read_genres(song) == ("Jazz",)


def test_tag_does_not_listen_again_to_a_file_that_only_got_our_tag(song: Path, tmp_path: Path) -> None:
    def known() -> bool:
        (track,) = discover([str(song.parent)]).tracks
        return Ledger.read(tmp_path).is_tagged(track, "fp-1", "mean")

    rows = pq.read_table(tmp_path / "results" / "run-1.parquet")
    at = rows.schema.get_field_index("vote")
    pq.write_table(rows.set_column(at, rows.schema.field(at), [["mean"]]), tmp_path / "results" / "run-1.parquet")
    assert known()
    assert tagfiles.apply_all(tmp_path, touch=True).written == 1
    assert known()
    assert tagfiles.apply_all(tmp_path, undo=True).written == 1
    assert known()
    os.utime(song, (5, 5))
    assert not known()


def test_a_finished_run_leaves_one_journal_file(music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "BATCH", 2)
    paths = [tagfiles.make(music, "flac", f"{number}") for number in range(5)]
    tagfiles.results(tmp_path, {path: [("blues", 0.9)] for path in paths}, root=music)
    before = [path.read_bytes() for path in paths]
    assert tagfiles.apply_all(tmp_path, workers=2).written == 5
    assert len(list((tmp_path / "applied").glob("*.parquet"))) == 1
    assert sorted(journal.read(tmp_path)["track_id"].to_pylist()) == [path.name for path in paths]
    assert tagfiles.apply_all(tmp_path, undo=True).written == 5
    assert [path.read_bytes() for path in paths] == before
