"""The report in a browser: on a phone, in print, and sorted by a click."""

import os

import pytest
import tagfiles
from browser import CHROMIUM, MARKS, sync_api

from genrebeam.features.schema import Track
from genrebeam.model.bundle import DEFAULT, load_config
from genrebeam.pipelines.dataset.dataset import RESULTS_DIR, Dataset
from genrebeam.pipelines.jobs.report import summarise, to_html

pytestmark = MARKS


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    dataset = Dataset.at(tmp_path_factory.mktemp("report"))
    name = "An Artist With a Long Name/An Album With an Even Longer Name, Volume"
    heard = {Track(f"/m/{n}", f"{name} {n}/{n}.mp3", 1, 0.0): [("jazz", n / 40), ("blues", n / 60)] for n in range(40)}
    rows = tagfiles.result_rows(heard, fingerprint=load_config(DEFAULT).fingerprint)
    dataset.add(RESULTS_DIR, "run-1", [row | {"artist": "A" * n, "duration_s": 60.0} for n, row in enumerate(rows)])
    file = dataset.folder.uri + ".html"
    with open(file, "w", encoding="utf-8") as out:
        out.write(to_html(summarise(dataset)))
    with sync_api.sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(f"file://{file}")
        yield page
        browser.close()


def test_the_page_is_no_wider_than_a_phone(page):
    page.emulate_media(media="screen")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_print_has_every_row(page):
    page.emulate_media(media="print")
    cut_off = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollHeight > one.clientHeight + 1).length"
    assert page.evaluate(cut_off) == 0
    page.emulate_media(media="screen")
    assert page.evaluate(cut_off) > 0


def test_a_click_and_a_key_sort_a_table(page):
    head = page.get_by_role("button", name="confidence")
    figures = (
        "[...document.querySelectorAll('h2')].find(h => h.textContent === 'Least certain')"
        ".nextElementSibling.nextElementSibling.querySelectorAll('td.n')"
    )
    read = f"[...{figures}].map(one => +one.textContent)"
    head.click()
    assert page.evaluate(read) == sorted(page.evaluate(read))
    head.press("Enter")
    assert page.evaluate(read) == sorted(page.evaluate(read), reverse=True)
