"""The application in a real browser: Debian's Chromium (or CHROMIUM=file), driven by Playwright."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synth
import tagfiles
from browser import CHROMIUM, MARKS, sync_api
from commandline import GENREBEAM, ROOT

from genrebeam.model.bundle import DEFAULT, load_config
from genrebeam.pipelines.dataset.corrections import read_corrections, write_down_all
from genrebeam.pipelines.dataset.dataset import Dataset
from genrebeam.pipelines.dataset.schema import RESULTS
from genrebeam.pipelines.tags.colours import colour_of
from genrebeam.pipelines.tags.read import read_genres

pytest.importorskip("fastapi", reason="SKIPPED: the application, for want of FastAPI (pip install 'genrebeam[app]')")
pytestmark = MARKS
PATIENCE_MS = 30_000  # on a busy machine
SONGS = ["Artist/first.mp3", "Artist/second [x]_*.flac", "Other/third.wav", "gone.mp3"]
ODD = "Mötley <b>$HOME$<i>/![x](a) & 'q'.ogg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Songs and the results of them, the least certain first; the file of the fourth is gone."""
    folder = tmp_path_factory.mktemp("app")
    heard = {}
    for number, name in enumerate([*SONGS, ODD, *(f"Many/{number:02d}.mp3" for number in range(12))]):
        path = synth.write(folder / "music" / name, synth.music(9.0 + number if number < 5 else 4, seed=number))
        heard[path] = [("rock", 0.3 + number / 50), ("jazz", 0.2)]
    tagfiles.results(folder / "out", heard, root=folder / "music")
    (file,) = (folder / "out" / "results").iterdir()
    rows = pq.read_table(file).to_pylist()  # what comes later in the list sounds less like the first
    rows = [
        row | {"embedding": [round(100 * math.cos(at / 10)), round(100 * math.sin(at / 10))], "embedding_trunk": "t"}
        for at, row in enumerate(rows)
    ]
    pq.write_table(pa.Table.from_pylist(rows, RESULTS), file)
    (folder / "music" / SONGS[3]).unlink()
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*GENREBEAM, "app", str(folder / "out"), "--port", str(port), "--by", "Ada", "--no-browser"]
    with (folder / "server.log").open("wb") as log:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        running = subprocess.Popen([*command, "--max-upload", "5"], cwd=ROOT, stdout=log, stderr=log, env=environment)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                assert running.poll() is None, (folder / "server.log").read_text()
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}/hear").close()
                    break
                time.sleep(0.05)
            yield address, running
        finally:
            running.terminate()
            running.wait(30)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*sandbox, "--autoplay-policy=no-user-gesture-required"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, server):
    """Pages that ask nobody else and raise no error; they begin where nothing is corrected."""
    pages, faults = [], []

    def opened(path="/", **options):
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 800}} | options)
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda r: None if r.url.startswith((server[0], "data:", "blob:")) else faults.append(r.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        pages.append(page)
        page.goto(server[0] + path)
        return page

    yield opened
    for page in pages:
        page.close()
    assert not faults


@pytest.fixture
def fresh(folder):
    """Nothing is corrected when a test begins."""
    write_down_all(Dataset.at(folder / "out"), dict.fromkeys(read_corrections(folder / "out")))
    return folder


def track(name):
    return f"/?{urllib.parse.urlencode({'track': name})}"


def wait_for_player(page, seconds):
    page.wait_for_function(f"() => Math.abs(document.querySelector('audio')?.duration - {seconds}) < 0.2")


def said(folder, name, *, within_s=20.0):
    """What the folder has of a correction, as soon as it has some."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if found := read_corrections(folder / "out").get(name):
            return found.genre, found.by
        time.sleep(0.05)
    return None


def heading(page, name):
    page.get_by_role("heading", name=name, exact=True).wait_for()


def test_an_upload_is_heard_drawn_and_can_be_played(open_page, folder):
    song = synth.write(folder / "sent.mp3", synth.music(21.0, seed=5))
    page = open_page("/hear")
    page.locator("input[type=file]").set_input_files(song)
    heard = page.locator(".answer").inner_text().split()
    assert heard[0] == "Heard:" and heard[-2].isdigit() and heard[-1] == "%"
    assert page.locator(".bars li").count() == len(load_config(DEFAULT).labels)
    wait_for_player(page, 21.0)
    assert page.locator("canvas.picture").evaluate("canvas => canvas.width") > 100
    box = page.locator(".timeline").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)  # the player goes where the click is
    page.wait_for_function("() => Math.abs(document.querySelector('audio').currentTime - 10.5) < 1")
    page.locator(".line").wait_for(state="visible")


def test_a_format_that_the_browser_does_not_play_is_played(open_page, folder):
    page = open_page("/hear")
    page.locator("input[type=file]").set_input_files(synth.write(folder / "sent.wma", synth.music(7.0, seed=6)))
    wait_for_player(page, 7.0)


def test_what_is_no_music_gets_a_sentence_and_the_next_file_is_heard(open_page, folder):
    (folder / "x.mp3").write_text("words and no music")
    page = open_page("/hear")
    page.locator("input[type=file]").set_input_files([folder / "x.mp3", folder / "music" / SONGS[2]])
    says = page.get_by_role("alert").inner_text()
    assert says.startswith("x.mp3: ") and "Traceback" not in says and str(folder) not in says
    page.locator(".answer").wait_for()
    assert page.locator("audio").count() == 1


def test_who_has_no_file_gets_a_sample(open_page):
    page = open_page("/hear")
    page.get_by_role("button", name="sample").click()
    page.locator(".answer").wait_for()
    wait_for_player(page, 12.0)


def test_names_full_of_markup_are_names(open_page, folder):
    song = folder / "![x](http:__a.example) <b>**$x$ :smile: 100%.wav"
    song.write_bytes((folder / "music" / SONGS[2]).read_bytes())
    page = open_page("/hear")
    page.locator("input[type=file]").set_input_files(song)
    heading(page, song.name)
    page.locator(".answer").wait_for()
    page = open_page(track(ODD))
    heading(page, "![x](a) & 'q'")
    wait_for_player(page, 13.0)
    assert page.locator("main b b, main i i").count() == 0


def test_an_upload_that_is_too_large_is_refused(open_page, folder):
    (folder / "large.wav").write_bytes(bytes(6 << 20))
    page = open_page("/hear")
    page.locator("input[type=file]").set_input_files(folder / "large.wav")
    assert "5 MB at most" in page.get_by_role("alert").inner_text()


def test_a_click_plays_a_track_and_its_picture_comes_later(open_page):
    page = open_page()
    page.locator("#row-1").click()
    heading(page, "second [x]_*")
    page.wait_for_function("() => document.querySelector('audio').currentTime > 0")
    wait_for_player(page, 10.0)
    page.locator("canvas.picture").wait_for(state="visible")
    assert "track=Artist%2Fsecond" in page.url


def test_buttons_and_keys_correct_and_go_on(open_page, fresh):
    page = open_page(track(SONGS[0]))
    wait_for_player(page, 9.0)
    page.locator("#words").get_by_role("button", name="Metal").click()
    assert said(fresh, SONGS[0]) == ("Metal", "Ada")
    heading(page, "second [x]_*")
    page.keyboard.press("1")
    assert said(fresh, SONGS[1]) == ("Blues", "Ada")
    heading(page, "third")
    page.keyboard.press("z")
    heading(page, "second [x]_*")
    page.wait_for_function("() => !document.querySelector('#heard').innerText.includes('✓')")
    assert SONGS[1] not in read_corrections(fresh / "out") and SONGS[0] in read_corrections(fresh / "out")


def test_only_enter_and_a_click_save_what_is_typed(open_page, fresh):
    page = open_page(track(SONGS[0]))
    own = page.get_by_label("Another genre")
    heading(page, "first")
    page.keyboard.press("g")
    page.keyboard.type("Zou")
    page.locator("canvas.picture").wait_for(state="visible")  # a picture that arrives takes nothing away
    assert own.input_value() == "Zou" and own.evaluate("field => field === document.activeElement")
    page.locator("#title").click()
    page.locator("#row-2").click()
    heading(page, "third")
    assert own.input_value() == ""
    own.fill("Zo")
    own.press("Escape")
    assert own.input_value() == "" and not read_corrections(fresh / "out")
    own.fill("Zouk; Kizomba")
    own.press("Enter")
    assert said(fresh, SONGS[2]) == ("Zouk; Kizomba", "Ada")
    page.locator("#row-0").click()
    heading(page, "first")
    own.fill("cou")
    page.get_by_role("option", name="Country").click()
    assert said(fresh, SONGS[0]) == ("Country", "Ada")


def test_a_whole_folder_and_selected_tracks_are_corrected_at_once(open_page, fresh):
    page = open_page(track("Many/03.mp3"))
    heading(page, "03")
    page.get_by_label("Whom a correction is for").select_option("folder")
    page.keyboard.press("Escape")
    page.locator("#words").get_by_role("button", name="Jazz").click()
    assert said(fresh, "Many/11.mp3") == ("Jazz", "Ada")
    assert len(read_corrections(fresh / "out")) == 12
    page.keyboard.press("z")
    page.get_by_text("Undone: 12 tracks").wait_for()
    assert not read_corrections(fresh / "out")
    page.locator("#row-0 .mark").click()
    page.locator("#row-2 .mark").click()
    page.get_by_text("2 selected").wait_for()
    page.locator("#words").get_by_role("button", name="Folk").click()
    assert said(fresh, SONGS[2]) == ("Folk", "Ada")
    assert read_corrections(fresh / "out").keys() == {SONGS[0], SONGS[2]}


def test_ten_tracks_by_keys_alone(open_page, fresh):
    page = open_page(track("Many/00.mp3"))
    heading(page, "00")
    for number in range(10):
        heading(page, f"{number:02d}")
        page.keyboard.press("y" if number % 2 else "2")
    heading(page, "10")
    assert said(fresh, "Many/09.mp3") == ("Rock", "Ada")
    corrections = read_corrections(fresh / "out")
    assert {i: one.genre for i, one in corrections.items()} == {
        f"Many/{number:02d}.mp3": "Rock" if number % 2 else "Classical" for number in range(10)
    }
    page.keyboard.press("p")
    heading(page, "09")
    page.keyboard.press(" ")
    page.wait_for_function("() => document.querySelector('audio').paused")
    page.keyboard.press("?")
    page.get_by_role("heading", name="Keys").wait_for()


def test_focus_stays_where_it_was_and_a_screen_reader_hears_of_rows(open_page, fresh):
    page = open_page(track("Many/00.mp3"))
    heading(page, "00")
    page.locator("#words").get_by_role("button", name="Folk").focus()
    page.keyboard.press("Enter")
    heading(page, "01")
    assert said(fresh, "Many/00.mp3") == ("Folk", "Ada")
    assert page.evaluate("document.activeElement.innerText").startswith("Folk")  # buttons are drawn anew
    grid = page.get_by_role("grid", name="Tracks")
    page.locator("#row-1").click()
    heading(page, "second [x]_*")
    assert grid.evaluate("grid => grid === document.activeElement")
    assert grid.get_attribute("aria-activedescendant") == "row-1" and grid.get_attribute("aria-rowcount") == "18"
    assert page.get_by_role("columnheader", name="Sure").get_attribute("aria-sort") == "ascending"
    for name in ("Search artist, title, album and path", "Show", "Genre", "Whom a correction is for"):
        page.get_by_label(name, exact=True).wait_for()


def test_more_like_this_is_listed_and_played(open_page):
    page = open_page(track(SONGS[0]))
    heading(page, "first")
    page.keyboard.press("m")
    heading(page, "second [x]_*")
    page.wait_for_function("() => document.querySelector('audio').currentTime > 0")
    page.get_by_text("16 tracks").wait_for()
    page.get_by_role("button", name="like first.mp3").click()
    page.get_by_text("17 tracks").wait_for()


def test_a_track_whose_file_is_gone_gets_a_sentence_and_can_be_corrected(open_page, fresh):
    page = open_page(track(SONGS[3]))
    page.locator("#facts .error").wait_for()
    assert "is its disk mounted" in page.locator("#facts").inner_text()
    page.get_by_role("button", name="Rock is right").click()
    assert said(fresh, SONGS[3]) == ("Rock", "Ada")


def test_columns_sort_all_rows_and_search_narrows_while_typing(open_page):
    page = open_page()
    first = page.locator("#row-0 .title")
    page.get_by_role("button", name="Sort by Title").click()
    page.wait_for_function("() => document.querySelector('#row-0 .title').innerText.startsWith('!')")
    page.get_by_role("button", name="Sort by Title").click()
    page.wait_for_function("() => document.querySelector('#row-0 .title').innerText === 'third'")
    page.keyboard.press("/")
    page.keyboard.type("artist SEC")
    page.get_by_text("1 track", exact=True).wait_for()
    assert first.inner_text() == "second [x]_*" and "q=artist" in page.url
    page.get_by_role("searchbox").fill("nothing like that")
    page.get_by_text("0 tracks").wait_for()


def test_a_genre_is_written_into_the_files_and_taken_back(open_page, fresh):
    page = open_page("/write")
    page.get_by_role("slider").fill("0.9")
    page.get_by_text("Nothing to write").wait_for()
    page.get_by_role("slider").fill("0.3")
    button = page.get_by_role("button", name="Write into")
    button.wait_for()
    assert page.locator("#changes tbody tr").count() > 0
    button.click()
    page.get_by_role("button", name="Write", exact=True).click()
    page.get_by_text("files written").wait_for()
    assert read_genres(fresh / "music" / SONGS[0]) == ("Rock",)
    page = open_page("/?q=third")
    page.get_by_text("1 track", exact=True).wait_for()
    page.get_by_role("link", name="Write these").click()
    page.get_by_role("slider").fill("0.3")
    page.get_by_text("Only tracks of the list: third.").wait_for()
    page.get_by_text("say so already").wait_for()
    page.get_by_role("button", name="Undo all").click()
    page.get_by_role("button", name="Undo", exact=True).click()
    page.get_by_text("files put back").wait_for()
    assert read_genres(fresh / "music" / SONGS[0]) == ()


def test_numbers_and_the_model_are_shown_and_lead_to_tracks(open_page, fresh):
    page = open_page("/numbers")
    page.get_by_role("link", name="Rock").click()
    page.get_by_text("17 tracks").wait_for()
    assert page.get_by_label("Genre", exact=True).input_value() == "rock"
    page = open_page("/model")
    page.get_by_role("heading", name="What is taken for what").wait_for()
    assert page.locator(".confusion tbody tr").count() == len(load_config(DEFAULT).labels)
    assert page.get_by_role("alert").count() == 0


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "Artist/../../secret.txt"])
def test_a_path_outside_of_the_catalog_gets_nothing(open_page, name):
    page = open_page(track(name))
    page.get_by_text("There is no such track in this catalog.").wait_for()
    assert page.locator("audio[src]").count() == 0


@pytest.mark.parametrize("path", ["/", "/hear", "/write", "/numbers", "/model"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_follow_the_systems_colours_and_fit_a_phone(open_page, path, scheme):
    page = open_page(path, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    if path == "/":
        page.locator("#row-0").click()
        heading(page, "first")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (light > 128) is (scheme == "light")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_genres_have_the_colours_that_reports_and_pictures_give_them(open_page):
    page = open_page("/hear")
    words = ["Hip-Hop", "hiphop", "Rap", "R&B", "New Age", "pop", "Zouk", "Früher Jazz", "演歌", "!!!"]
    script = """words => import("/static/common.js").then(({ colourOf }) => words.map(word => {
        const box = document.createElement("i");
        box.style.color = colourOf(word);
        return box.style.color.match(/\\d+/g).map(Number);
    }))"""
    seen = page.evaluate(script, words)
    for word, there in zip(words, seen, strict=True):
        here = [int(colour_of(word)[at : at + 2], 16) for at in (1, 3, 5)]
        assert all(abs(a - b) <= 1 for a, b in zip(here, there, strict=True)), word  # browsers round by themselves


def test_only_this_machine_can_reach_it(server):
    import psutil

    _, running = server
    listening = [c.laddr.ip for c in psutil.Process(running.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening and set(listening) == {"127.0.0.1"}
