"""The HTTP API: tracks, corrections, sound, hearing a file; and who may ask."""

from __future__ import annotations

import io
import json
import os
import shutil
import unicodedata
import urllib.parse
import wave
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synth
import tagfiles

from genrebeam.model.bundle import DEFAULT, load_config
from genrebeam.pipelines.dataset.corrections import read_corrections
from genrebeam.pipelines.dataset.schema import storable

from .conftest import SONGS, serving


@pytest.fixture
def served(library, tmp_path):
    shutil.copytree(library / "out", tmp_path / "out")
    with serving(tmp_path / "out") as running:
        yield running


def of(kind, name, more=""):
    return f"{kind}{urllib.parse.quote(name)}{more}"


def test_tracks_are_listed_filtered_and_paged(served):
    listed = served.ask("/api/tracks?limit=2&order=title").json
    assert [row["title"] for row in listed["tracks"]] == ["first", "gone"] and listed["total"] == 4
    assert served.ask("/api/tracks?q=THIRD&around=Other/third%20%231%3F.wma").json["position"] == 0
    assert served.ask("/api/tracks?order=colour").status == 400


@pytest.mark.parametrize("name", SONGS)
def test_a_track_has_details_and_a_timeline(served, name):
    track = served.ask(of("/api/tracks/", name)).json
    assert track["track_id"] == name and track["heard"] == "Rock" and track["correction"] is None
    assert "scores" in served.ask(of("/api/timeline/", name)).json


def test_a_correction_is_saved_shown_and_undone_by_what_was_there_before(served):
    path = of("/api/tracks/", SONGS[1])
    assert served.ask(f"{path}/genre", "PUT", {"genre": "Zouk;Kizomba"}).json == {"before": {SONGS[1]: None}}
    assert read_corrections(served.folder)[SONGS[1]][::2] == ("Zouk; Kizomba", "Ada")
    assert served.ask(path).json["correction"]["genre"] == "Zouk; Kizomba"
    assert "Zouk" in served.ask("/api/words").json["words"]
    before = served.ask("/api/genres", "PUT", {"folder": "Artist/", "genre": "Pop"}).json["before"]
    assert before == {SONGS[0]: None, SONGS[1]: "Zouk; Kizomba"}
    served.ask("/api/genres", "PUT", {"tracks": before})
    assert {i: one.genre for i, one in read_corrections(served.folder).items()} == {SONGS[1]: "Zouk; Kizomba"}


def test_a_genre_that_no_tag_could_hold_or_no_track_is_a_sentence(served):
    path = of("/api/tracks/", SONGS[1], "/genre")
    assert "no genre" in served.ask(path, "PUT", {"genre": " "}).json["error"]
    assert served.ask(path, "PUT", {"genre": "x" * 500}).status == 422
    assert served.ask("/api/tracks/nobody/genre", "PUT", {"genre": "Pop"}).status == 404
    assert not read_corrections(served.folder)


def test_sound_comes_in_ranges_and_what_browsers_do_not_play_is_converted(served, library):
    whole = (library / "music" / SONGS[0]).read_bytes()
    part = served.ask(of("/sound/", SONGS[0]), headers={"range": "bytes=100-199"})
    assert (part.status, part.body, part.headers["content-type"]) == (206, whole[100:200], "audio/mpeg")
    answer = served.ask(of("/sound/", SONGS[2]))
    with wave.open(io.BytesIO(answer.body)) as file:
        assert abs(file.getnframes() / file.getframerate() - 11.0) < 0.2


def test_a_picture_is_drawn_of_the_file(served):
    picture = served.ask(of("/api/picture/", SONGS[1])).json
    assert abs(picture["duration_s"] - 10.0) < 0.1 and picture["columns"] > 50
    assert "is its disk mounted" in served.ask(of("/api/picture/", SONGS[3])).json["error"]


def test_nothing_is_decoded_in_the_server_itself(served, library, monkeypatch):
    from genrebeam.features import extract

    monkeypatch.setattr(extract, "open_audio", lambda *args, **options: pytest.fail("decoded in the server"))
    for name in (SONGS[0], SONGS[2]):
        assert served.ask(of("/sound/", name)).status == served.ask(of("/api/picture/", name)).status == 200
    song = (library / "music" / SONGS[2]).read_bytes()
    assert served.send("/api/hear?picture=true", "a.wma", song).status == 200
    assert served.send("/api/sound", "a.wma", song).status == 200


def test_a_missing_drive_is_a_sentence_and_plays_when_it_is_back(library, tmp_path):
    shutil.copytree(library, tmp_path / "all")
    out, music = tmp_path / "all" / "out", tmp_path / "all" / "music"
    (file,) = (out / "results").iterdir()
    rows = pq.read_table(file).to_pylist()
    for row in rows:
        row["uri"] = str(music / row["track_id"])
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(file)), file)
    with serving(out) as served:
        music.rename(tmp_path / "away")
        for path in (of("/sound/", SONGS[0]), of("/api/picture/", SONGS[0]), of("/sound/", SONGS[2])):
            answer = served.ask(path)
            assert answer.status == 503 and "is its disk mounted" in answer.json["error"]
        (tmp_path / "away").rename(music)
        for path in (of("/sound/", SONGS[0]), of("/api/picture/", SONGS[0]), of("/sound/", SONGS[2])):
            assert served.ask(path).status == 200


@pytest.mark.parametrize(
    "name", [b"caf\xe9.mp3", "Beyonce\u0301/De\u0301ja\u0300.mp3".encode(), b"$HOME #1?%41 <i>&.mp3", b"a\\b.mp3"]
)
def test_names_of_any_kind_play_and_are_drawn(library, tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/music/" + name))
    path.parent.mkdir(parents=True)
    shutil.copyfile(library / "music" / SONGS[0], path)
    track_id = storable(os.fsdecode(name))
    tagfiles.results(tmp_path / "out", {path: [("rock", 0.9)]}, root=tmp_path / "music", track_ids=[track_id])
    with serving(tmp_path / "out") as served:
        assert [row["track_id"] for row in served.ask("/api/tracks").json["tracks"]] == [track_id]
        for asked in {track_id, unicodedata.normalize("NFC", track_id)}:
            assert served.ask(of("/sound/", asked)).status == served.ask(of("/api/picture/", asked)).status == 200
            assert served.ask(of("/api/tracks/", asked, "/genre"), "PUT", {"genre": "Pop"}).status == 200
        assert read_corrections(tmp_path / "out").keys() == {track_id}


def test_a_track_that_a_manifest_calls_otherwise_plays_where_a_run_has_read_its_library(library, tmp_path):
    song = shutil.copyfile(library / "music" / SONGS[0], tmp_path / "0815.mp3")
    tagfiles.results(tmp_path / "out", {song: [("rock", 0.9)]}, root=tmp_path, track_ids=["The song"])
    with serving(tmp_path / "out") as served:
        assert "outside of their library" in served.ask("/sound/The%20song").json["error"]
    report = {"config": {"libraries": [str(tmp_path)]}}
    (tmp_path / "out" / "run-1.json").write_text(json.dumps(report))
    with serving(tmp_path / "out") as served:
        assert served.ask("/sound/The%20song").status == 200


@pytest.mark.parametrize("track_id", ["passwd.mp3", "etc/passwd", "../secret.txt", "a/b.mp3"])
def test_rows_that_somebody_made_up_open_no_file(library, tmp_path, track_id):
    shutil.copytree(library / "out", tmp_path / "out")
    (file,) = (tmp_path / "out" / "results").iterdir()
    rows = pq.read_table(file).to_pylist()
    for uri in ("/etc/passwd", str(library / "secret.txt"), f"{library}/music/../secret.txt"):
        row = rows[0] | {"uri": uri, "track_id": track_id, "container": "mp3", "codec": "mp3"}
        pq.write_table(pa.Table.from_pylist([row], pq.read_schema(file)), file)
        with serving(tmp_path / "out") as served:
            for kind in ("/sound/", "/api/picture/"):
                answer = served.ask(kind + urllib.parse.quote(track_id, safe=""))
                assert answer.status in (404, 422)
                assert b"root:" not in answer.body and b"nobody may" not in answer.body


@pytest.mark.parametrize("name", ["song.mp3", "Bj\u00f6rk $HOME <b>&amp;.mp3", "../../x.mp3"])
def test_a_file_is_heard(served, library, name):
    heard = served.send("/api/hear?picture=true", name, (library / "music" / SONGS[0]).read_bytes()).json
    labels = load_config(DEFAULT).labels
    assert len(heard["labels"]) == len(labels) == len(heard["timeline"][0]) == len(heard["scores"])
    assert heard["genre"] in heard["labels"] and 0 <= heard["confidence"] <= 1
    assert heard["name"] == name.rpartition("/")[2] and heard["picture"]["columns"] > 50
    assert heard["audio"]["codec"] == "mp3" and heard["genre_before"] == []


def test_what_is_no_music_is_a_sentence_that_names_it(served):
    for path in ("/api/hear", "/api/sound"):
        answer = served.send(path, "x.mp3", b"words and no music")
        assert answer.status == 422 and answer.json["error"].startswith("x.mp3: ")
        assert "/tmp" not in answer.json["error"]


def test_a_format_that_browsers_do_not_play_is_converted(served, tmp_path):
    song = synth.write(tmp_path / "a.wma", synth.music(6.0, seed=3))
    with wave.open(io.BytesIO(served.send("/api/sound", "a.wma", song.read_bytes()).body)) as file:
        assert abs(file.getnframes() / file.getframerate() - 6.0) < 0.2


def test_a_file_that_is_too_large_is_refused():
    with serving(None, max_upload_mb=1) as served:
        answer = served.send("/api/hear", "large.wav", bytes(2 << 20))
        assert answer.status == 413 and "1 MB at most" in answer.json["error"]


def test_without_a_folder_files_can_be_heard():
    with serving(None) as served:
        assert b"Hear a file" in served.ask("/").body
        assert "genrebeam app DIR" in served.ask("/api/tracks").json["error"]


@pytest.mark.parametrize("path", ["/static/../guard.py", "/static/%2e%2e/guard.py", "/sound/../../secret.txt", "/x"])
def test_other_paths_are_nothing(served, path):
    assert served.ask(path).status == 404


def test_pages_load_nothing_from_elsewhere_and_cannot_be_framed(served):
    answer = served.ask("/")
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert served.ask("/api/openapi.json").json["paths"].keys() >= {"/api/hear", "/api/tracks"}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"])
def test_a_page_whose_name_leads_here_gets_nothing(served, host):
    assert served.ask("/api/tracks", headers={"host": host}).status in (400, 403)


@pytest.mark.parametrize(
    "header", [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
)
def test_a_page_of_another_site_changes_nothing(served, header):
    answer = served.ask(of("/api/tracks/", SONGS[0], "/genre"), "PUT", {"genre": "Pop"}, header)
    assert answer.status == 403 and not read_corrections(served.folder)


def test_on_another_address_everything_needs_the_token():
    with serving(None, token="sesame") as served:
        assert served.ask("/hear").status == served.ask("/hear?token=wrong").status == 401
        assert served.ask("/static/style.css").status == 401
        assert served.ask("/hear", headers={"authorization": "Bearer sesame"}).status == 200
        assert served.ask("/hear", headers={"cookie": "genrebeam-token=sesame"}).status == 200
        assert served.ask("/api/openapi.json?token=sesame", "POST", {}).status == 401
