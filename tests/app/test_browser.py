"""The application in a real browser: Debian's Chromium (or CHROMIUM=file), driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
import synth
import tagfiles
from commandline import GENREBEAM, ROOT

from genrebeam.model.bundle import DEFAULT, load_config
from genrebeam.pipelines.dataset.corrections import read_corrections

pytest.importorskip(
    "streamlit", reason="SKIPPED: the application, for want of Streamlit (pip install 'genrebeam[app]')"
)
sync_api = pytest.importorskip(
    "playwright.sync_api", reason="SKIPPED: the browser test, for want of Playwright (pip install 'genrebeam[test]')"
)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="SKIPPED: the browser test, for want of a browser (apt install chromium)"),
]
PATIENCE_MS = 60_000  # the first track waits for TensorFlow, on a busy machine
SONGS = ["Artist/first.mp3", "Artist/second [x]_*.flac", "Other/third.wav", "gone.mp3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three songs and the results of four: the files of the last have gone."""
    folder = tmp_path_factory.mktemp("app")
    heard = {}
    for number, name in enumerate(SONGS):
        path = synth.write(folder / "music" / name, synth.music(9.0 + number, seed=number, channels=2))
        heard[path] = [("rock", 0.3 + number / 10), ("jazz", 0.2)]
    tagfiles.results(folder / "out", heard, root=folder / "music")
    (folder / "music" / SONGS[-1]).unlink()
    (folder / "secret.txt").write_text("nobody may see this")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*GENREBEAM, "app", str(folder / "out"), "--port", str(port), "--by", "Ada"]
    with (folder / "server.log").open("wb") as log:
        running = subprocess.Popen(
            [*command, "--max-upload", "5"],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                assert running.poll() is None, (folder / "server.log").read_text()
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}/_stcore/health").close()
                    break
                time.sleep(0.1)
            yield address, running
        finally:
            running.terminate()
            running.wait(30)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    elsewhere = []
    page.on("request", lambda r: None if r.url.startswith((server[0], "data:", "blob:")) else elsewhere.append(r.url))
    yield page
    page.close()
    assert not [url for url in elsewhere if not url.startswith(server[0].replace("http", "ws"))]


def track(server, name):
    return f"{server[0]}/?{urllib.parse.urlencode({'track': name})}"


def wait_for_player(page, seconds):
    page.wait_for_function(f"Math.abs(document.querySelector('audio')?.duration - {seconds}) < 0.2")


def said(folder, name, *, within_s=20.0):
    """What the folder has of a correction, as soon as it has some."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if found := read_corrections(folder / "out").get(name):
            return found.genre, found.by
        time.sleep(0.1)
    return None


def test_an_upload_is_heard_drawn_and_can_be_played(page, server, folder):
    song = synth.write(folder / "sent.mp3", synth.music(21.0, seed=5))
    page.goto(f"{server[0]}/hear")
    page.locator("input[type=file]").set_input_files(song)
    heard = page.get_by_text("Heard:").inner_text()
    assert heard.split()[1] in load_config(DEFAULT).labels and heard.split()[2].rstrip("%").isdigit()
    wait_for_player(page, 21.0)
    picture = page.locator(".frame img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1100
    assert "sure" in picture.get_attribute("alt")
    line = page.locator(".frame .line")
    assert not line.is_visible()
    box = picture.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)  # the player goes where the click is
    page.wait_for_function("document.querySelector('audio').currentTime > 5")
    line.wait_for(state="visible")


def test_what_is_no_music_gets_a_sentence_and_the_next_file_is_heard(page, server, folder):
    (folder / "x.mp3").write_text("words and no music")
    page.goto(f"{server[0]}/hear")
    page.locator("input[type=file]").set_input_files(folder / "x.mp3")
    says = page.get_by_role("alert").inner_text()
    assert says.startswith("x.mp3: ") and "Traceback" not in says and str(folder) not in says
    assert page.locator("audio").count() == 0
    page.locator("input[type=file]").set_input_files(folder / "music" / SONGS[2])
    page.get_by_text("Heard:").wait_for()


def test_a_name_full_of_markup_is_a_name(page, server, folder):
    name = "![x](http:__a.example) <b>**$x$ :smile: 100%.wav"
    song = folder / name
    song.write_bytes((folder / "music" / SONGS[2]).read_bytes())
    page.goto(f"{server[0]}/hear")
    page.locator("input[type=file]").set_input_files(song)
    page.get_by_role("heading", name=name, exact=True).wait_for()
    page.locator(".frame img").wait_for()
    assert page.get_by_role("alert").count() == 0


def test_an_upload_that_is_too_large_is_refused(page, server, folder):
    (folder / "large.wav").write_bytes(bytes(6 << 20))
    page.goto(f"{server[0]}/hear")
    page.locator("input[type=file]").set_input_files(folder / "large.wav")
    page.get_by_text("must be 5").wait_for()


def test_a_click_corrects_and_goes_on_and_keys_do_too(page, server, folder):
    page.goto(track(server, SONGS[0]))
    wait_for_player(page, 9.0)
    page.get_by_role("button", name="metal").click()
    assert said(folder, SONGS[0]) == ("metal", "Ada")
    page.get_by_role("heading", name="second").wait_for()  # the next of the list
    wait_for_player(page, 10.0)
    page.keyboard.press("1")
    assert said(folder, SONGS[1]) == ("blues", "Ada")
    page.get_by_role("heading", name="third").wait_for()
    page.get_by_label("Another genre").fill("Zouk; Kizomba")
    page.keyboard.press("Enter")
    assert said(folder, SONGS[2]) == ("Zouk; Kizomba", "Ada")


def test_a_track_whose_file_has_gone_gets_a_sentence_and_can_be_corrected(page, server, folder):
    page.goto(track(server, SONGS[3]))
    assert "gone.mp3" in page.get_by_role("alert").inner_text()
    page.get_by_role("button", name="rock is right").click()
    assert said(folder, SONGS[3]) == ("rock", "Ada")
    page.get_by_role("button", name="Withdraw").click()
    page.get_by_role("button", name="Withdraw").wait_for(state="detached")
    assert SONGS[3] not in read_corrections(folder / "out")


def test_a_cell_of_the_list_chooses_its_track(page, server):
    page.goto(server[0])
    page.get_by_text("1 to 4 of 4").wait_for()
    box = page.get_by_test_id("stDataFrame").bounding_box()
    page.mouse.click(box["x"] + 120, box["y"] + 35 * 1.5)
    page.locator("audio").wait_for()
    assert "track=Artist" in page.url


def test_filters_narrow_the_list(page, server):
    page.goto(server[0])
    page.get_by_role("textbox", name="Search").fill("THIRD")
    page.keyboard.press("Enter")
    page.get_by_text("1 to 1 of 1").wait_for()
    page.get_by_role("textbox", name="Search").fill("nothing like that")
    page.keyboard.press("Enter")
    page.get_by_text("No track is like that.").wait_for()


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "Artist/../../secret.txt"])
def test_a_path_outside_of_the_catalog_gets_nothing(page, server, name):
    page.goto(track(server, name))
    page.get_by_text("There is no such track in this catalog.").wait_for()
    assert page.locator("audio").count() == page.locator(".frame").count() == 0


@pytest.mark.parametrize("path", ["/media/../secret.txt", "/app/static/../../secret.txt", "/%2e%2e/secret.txt"])
def test_the_server_hands_out_no_files(server, folder, path):
    try:
        with urllib.request.urlopen(server[0] + path) as answer:
            assert b"nobody may see this" not in answer.read()
    except urllib.error.HTTPError as error:
        assert error.code in (400, 403, 404)


def test_numbers_and_the_model_are_shown(page, server):
    page.goto(f"{server[0]}/numbers")
    page.get_by_role("heading", name="The catalog in numbers").wait_for()
    page.get_by_test_id("stVegaLiteChart").nth(1).wait_for()
    page.goto(f"{server[0]}/model")
    page.get_by_text("calibration error").wait_for()
    page.get_by_test_id("stVegaLiteChart").nth(1).wait_for()
    assert page.get_by_role("alert").count() == 0


def test_only_this_machine_can_reach_it(server):
    import psutil

    _, running = server
    listening = [c.laddr.ip for c in psutil.Process(running.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening and set(listening) == {"127.0.0.1"}
