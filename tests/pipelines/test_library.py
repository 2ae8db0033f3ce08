"""Whatever lies in a library is found once, with a stable identity, or turned down with a reason."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.library.discover import discover
from genrebeam.pipelines.library.reach import spread
from genrebeam.pipelines.storage.places import local_path, path_uri


@pytest.fixture
def library(tmp_path):
    root = tmp_path / "Music"
    for name in ("A/1.mp3", "A/2.flac", "B/no suffix", "B/cover.JPG", ".38 Special/3.ogg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * len(name))
    return root


def ids(found):
    return [track.track_id for track in found.tracks]


def errors(found):
    return {r.track.track_id: (r.stage, r.error) for r in found.rejections}


def test_a_folder_is_walked_and_every_file_accounted_for(library):
    found = discover([str(library)])
    assert ids(found) == [".38 Special/3.ogg", "A/1.mp3", "A/2.flac", "B/no suffix"]
    assert errors(found) == {"B/cover.JPG": ("discover", "NotAudio")}
    track = found.tracks[1]
    status = os.stat(library / "A/1.mp3")
    assert (track.uri, track.size) == (str(library / "A/1.mp3"), status.st_size)
    assert round(track.mtime * 1e6) == status.st_mtime_ns // 1000


def test_odd_entries_become_rejects_or_folders(library):
    (library / "dangling.mp3").symlink_to("nowhere.mp3")
    os.mkfifo(library / "pipe.mp3")
    (library / "folder.mp3").mkdir()
    (library / "folder.mp3" / "inside.mp3").write_bytes(b"x")
    (library / "again").symlink_to(library)  # a loop
    found = discover([str(library)])
    assert errors(found)["dangling.mp3"] == ("discover", "UnreadableFile")
    assert errors(found)["pipe.mp3"] == ("discover", "NotAudio")
    assert "folder.mp3/inside.mp3" in ids(found)
    assert len(ids(found)) == len(set(ids(found))) == 5
    assert "a link to nothing" in found.rejections[1].message


def test_linked_folders_are_followed(library, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "x.mp3").write_bytes(b"x")
    (library / "link").symlink_to(other)
    assert "link/x.mp3" in ids(discover([str(library)]))


def test_a_folder_goes_by_its_own_name_and_not_by_that_of_a_link(library):
    before = ids(discover([str(library)]))
    for link in ("Zz", "0 first", ".38 Special/deeper"):
        (library / link).symlink_to(library / "A")
    assert ids(discover([str(library)])) == before


def test_what_systems_leave_behind_is_not_music(library):
    for name in ("._1.mp3", ".DS_Store", "@eaDir/1.mp3/SYNOAUDIO_01APIC_03.mp3"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_bytes(b"x")
    assert len(ids(discover([str(library)]))) == 4


def test_a_folder_keeps_its_own_name_when_a_link_leads_to_it_too(library):
    (library / "0 first").symlink_to(library / "A")
    (library / "Zz last").symlink_to(library / "A")
    assert ids(discover([str(library)])) == [".38 Special/3.ogg", "A/1.mp3", "A/2.flac", "B/no suffix"]


BINS = (
    "#recycle",
    "@Recycle",
    "$RECYCLE.BIN",
    ".Trash-1000",
    ".recycle",
    "#snapshot",
    ".snapshots",
    ".zfs/snapshot/daily",
)
BINS += (".stversions", ".sync/Archive", "@GMT-2026.01.01-00.00.00", "@eaDir/1.mp3")
UNFINISHED = (
    "a.flac.part",
    "a.mp3.crdownload",
    "a.mp3.!qB",
    ".syncthing.a.flac.tmp",
    ".a.flac.xK3pQ9",
    "a.mp3.partial",
)
UNFINISHED += ("INCOMPLETE~a.mp3", ".a.mp3.icloud", ".a.flac.~1f2e")


@pytest.mark.parametrize("name", [*(f"{folder}/old.flac" for folder in BINS), *UNFINISHED])
def test_bins_snapshots_and_unfinished_downloads_of_other_programs_are_not_music(library, name):
    for place in (library, library / "A"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x")
    found = discover([str(library)])
    assert ids(found) == [".38 Special/3.ogg", "A/1.mp3", "A/2.flac", "B/no suffix"]
    assert list(errors(found)) == ["B/cover.JPG"]
    assert ids(discover([str(library / "**" / "*")])) == ["A/1.mp3", "A/2.flac", "B/no suffix"]


@pytest.mark.parametrize(
    "name", ["Vol. 1.part/1.mp3", ".hidden.mp3", "Trash/1.mp3", "(no) part.mp3", ".38 Special.Albums/1.mp3"]
)
def test_names_that_only_look_like_those_are_music(library, name):
    (library / name).parent.mkdir(parents=True, exist_ok=True)
    (library / name).write_bytes(b"x")
    assert name in ids(discover([str(library)]))


def test_what_the_owner_excludes_is_passed_over(library):
    assert ids(discover([str(library)], exclude=["*.flac", "/B/"])) == [".38 Special/3.ogg", "A/1.mp3"]
    assert ids(discover([str(library)], exclude=["*", "!*/", "!*.flac"])) == ["A/2.flac"]
    assert ids(discover([str(library / "*" / "*")], exclude=["A"])) == ["B/no suffix"]
    (library / "list.txt").write_text("A/1.mp3\n")
    assert ids(discover([str(library / "list.txt")], exclude=["A"])) == ["A/1.mp3"]  # named one by one


def test_an_ignore_file_holds_below_its_folder_and_the_nearest_one_decides(library):
    (library / ".genrebeamignore").write_text("# lossless\n*.flac\nB\n")
    (library / "A" / "more").mkdir()
    (library / "A" / "more" / "4.flac").write_bytes(b"x")
    assert ids(discover([str(library)])) == [".38 Special/3.ogg", "A/1.mp3"]
    (library / "A" / ".genrebeamignore").write_text("!/2.flac\n1.*\n")
    assert ids(discover([str(library)])) == [".38 Special/3.ogg", "A/2.flac"]
    assert ids(discover([str(library)], exclude=["3.ogg"])) == ["A/2.flac"]


def test_invalid_patterns_and_unreadable_ignore_files_end_the_search(library):
    with pytest.raises(UsageError, match=r"--exclude: not a pattern"):
        discover([str(library)], exclude=["!"])
    (library / ".genrebeamignore").mkdir()
    with pytest.raises(UsageError, match=r"\.genrebeamignore: cannot be read: Is a directory"):
        discover([str(library)])


def test_the_output_folder_is_left_out(library):
    (library / "out" / "results").mkdir(parents=True)
    (library / "out" / "results" / "x.mp3").write_bytes(b"x")
    assert len(ids(discover([str(library)], leave_out=[library / "out"]))) == 4


def test_an_unreadable_folder_inside_is_one_reject(library, monkeypatch):
    real = os.scandir

    def scandir(path):  # chmod would not stop root, whom tests often run as
        if str(path).endswith("A"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = discover([str(library)])
    assert errors(found)["A"] == ("discover", "UnreadableFile")
    assert ids(found) == [".38 Special/3.ogg", "B/no suffix"]


def test_names_in_any_encoding_survive(library):
    name = os.fsdecode(b"caf\xe9.mp3")
    (library / name).write_bytes(b"x")
    (track,) = [t for t in discover([str(library)]).tracks if "caf" in t.track_id]
    assert track.track_id == "caf%E9.mp3"
    assert track.uri == f"file://{library}/caf%E9.mp3"
    assert local_path(track.uri) == library / name


@given(st.binary(min_size=1, max_size=30).filter(lambda b: b"\0" not in b and b"/" not in b and b not in (b".", b"..")))
def test_uri_and_path_are_inverse(name):
    path = os.path.join("/music", os.fsdecode(name))
    uri = path_uri(path)
    uri.encode("utf-8")
    assert str(local_path(uri)) == path


def test_a_glob_takes_what_matches_relative_to_its_fixed_part(library):
    found = discover([str(library / "*" / "*.mp3")])
    assert ids(found) == ["A/1.mp3"]
    assert ids(discover([str(library / "**" / "*.flac")])) == ["A/2.flac"]


def test_a_single_file_is_a_library_of_one(library):
    assert ids(discover([str(library / "A" / "1.mp3")])) == ["1.mp3"]


@pytest.mark.parametrize("suffix", ["txt", "m3u8", "csv", "parquet"])
def test_manifests_name_files_relative_to_themselves(library, tmp_path, suffix):
    names = ["A/1.mp3", str(library / "A" / "2.flac"), "missing.mp3"]
    path = library / f"list.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"uri": names}), path)
    elif suffix == "csv":
        path.write_text("note,uri\n" + "".join(f"x,{n}\n" for n in names))
    else:
        path.write_text(("#EXTM3U\n" if suffix == "m3u8" else "") + "\n".join(names) + "\n\n")
    found = discover([str(path)])
    assert ids(found) == ["A/1.mp3", "A/2.flac"]
    assert errors(found) == {"missing.mp3": ("discover", "UnreadableFile")}


def test_a_manifest_may_name_the_tracks(library):
    (library / "list.csv").write_text("track_id,uri\nfirst,A/1.mp3\n")
    assert ids(discover([str(library / "list.csv")])) == ["first"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p / "nowhere", "no such library"),
        (lambda p: p / "*.xyz", "nothing matches"),
        (lambda p: write(p / "x.csv", b"path\na.mp3\n"), "column `uri`; this one has path"),
        (lambda p: write(p / "x.csv", b""), "column `uri`"),
        (lambda p: write(p / "x.parquet", b"not parquet"), "not a readable Parquet file"),
    ],
    ids="missing glob no-uri empty broken".split(),
)
def test_unusable_libraries_are_refused_by_name(tmp_path, make, says):
    path = make(tmp_path)
    with pytest.raises(UsageError, match=says) as caught:
        discover([str(path)])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["", "file://"])
def test_no_name_is_not_the_name_of_the_folder_of_the_moment(library, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="names no library"):
        discover([library])


def write(path, data):
    path.write_bytes(data)
    return path


def test_two_libraries_with_the_same_track_are_refused(library, tmp_path):
    (tmp_path / "More" / "A").mkdir(parents=True)
    (tmp_path / "More" / "A" / "1.mp3").write_bytes(b"another")
    with pytest.raises(UsageError, match=r"both the track 'A/1\.mp3'"):
        discover([str(library), str(tmp_path / "More")])
    assert len(ids(discover([str(library), str(library)]))) == 4  # the same file twice is one track


def test_the_order_does_not_depend_on_the_file_system(library):
    assert ids(discover([str(library)])) == sorted(ids(discover([str(library)])))


def test_remote_objects_come_through_beams_file_systems(library, monkeypatch):
    from apache_beam.io import localfilesystem

    # A file system of another scheme, served from the local disk.
    class Fake(localfilesystem.LocalFileSystem):
        @classmethod
        def scheme(cls):
            return "fake"

        def match(self, patterns, limits=None):
            local = [str(library) + p.removeprefix("fake://bucket") for p in patterns]
            results = super().match(local, limits)
            for result in results:
                for metadata in result.metadata_list:
                    metadata.path = "fake://bucket" + metadata.path.removeprefix(str(library))
            return results

    assert Fake.scheme() == "fake"
    found = discover(["fake://bucket"])
    assert ids(found) == [".38 Special/3.ogg", "A/1.mp3", "A/2.flac", "B/no suffix"]
    assert found.tracks[1].uri == "fake://bucket/A/1.mp3"
    assert errors(found) == {"B/cover.JPG": ("discover", "NotAudio")}


@given(st.integers(0, 500), st.integers(1, 30))
def test_a_spread_sample_reaches_from_beginning_to_end(length, count):
    sample = spread(map(str, range(length)), count)
    assert min(length, count) <= len(sample) < 2 * count or length == len(sample)
    assert sample == sorted(sample, key=int)
    if length:
        assert sample[0] == "0"
        assert length - 1 - int(sample[-1]) < max(1, length // count)
