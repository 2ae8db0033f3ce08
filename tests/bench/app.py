"""How fast the application answers, in a real browser: `make bench-app`. Prints seconds and MB as JSON.

A catalog of [--rows N] tracks of which the first hundred have sound; Debian's Chromium (or CHROMIUM=file).
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import synth  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402

from genrebeam.model.bundle import DEFAULT, load_config  # noqa: E402
from genrebeam.pipelines.dataset.schema import RESULTS  # noqa: E402

ROWS_PER_FILE, CHUNKS, PLAYED, STARTS = 5_000, 119, 100, 5
NEXT = """(key) => new Promise((done) => {
  const start = performance.now();
  const title = document.querySelector('#title').innerText;
  const look = () => {
    const sound = document.querySelector('audio');
    const shown = document.querySelector('#title').innerText !== title;
    if (shown && sound.currentTime > 0 && !sound.paused) done((performance.now() - start) / 1000);
    else requestAnimationFrame(look);
  };
  if (key.startsWith('#')) document.querySelector(key).click();
  else document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  look();
})"""
CHANGED = """([act, value, selector]) => new Promise((done) => {
  const start = performance.now();
  new MutationObserver((_, me) => { me.disconnect(); done((performance.now() - start) / 1000); })
    .observe(document.querySelector(selector), {childList: true, characterData: true, subtree: true});
  if (act === 'key') document.body.dispatchEvent(new KeyboardEvent('keydown', {key: value, bubbles: true}));
  else if (act === 'click') document.querySelector(value).click();
  else {
    const field = document.querySelector('#q');
    field.value = value;
    field.dispatchEvent(new Event('input', {bubbles: true}));
  }
})"""


def make_catalog(folder: Path, rows: int) -> None:
    """Rows as `tag` writes them, of four-minute tracks; the least certain ones have files."""
    labels = np.array(load_config(DEFAULT).labels)
    chance, now = np.random.default_rng(1), dt.datetime.now(dt.timezone.utc)
    (folder / "out" / "results").mkdir(parents=True)
    song = synth.write(folder / "song.mp3", synth.music(240, seed=1, channels=2))
    for first in range(0, rows, ROWS_PER_FILE):
        numbers = np.arange(first, min(rows, first + ROWS_PER_FILE))
        count = len(numbers)
        names = [f"Artist {n // 40:05d}/Album {n // 10:06d}/{n % 10:02d} The name of a song.mp3" for n in numbers]
        for name in names if first == 0 else ():
            if int(name[7:12]) < PLAYED // 40 + 1:
                path = folder / "music" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(song, path)
        genre = chance.choice(labels, count)
        confidence = chance.uniform(0.1, 1, count).astype(np.float32)
        if first == 0:
            confidence[:PLAYED] = np.linspace(0, 0.05, PLAYED)
        scores = chance.random(count * CHUNKS * len(labels), dtype=np.float32).round(2)
        chunks = pa.FixedSizeListArray.from_arrays(pa.array(scores), len(labels))
        starts = [2.0 * chunk for chunk in range(CHUNKS)]
        given: dict[str, Any] = {
            "uri": [f"{folder}/music/{name}" for name in names],
            "track_id": names,
            "size": np.full(count, song.stat().st_size),
            "duration_s": np.full(count, 240.0),
            "genre": genre,
            "confidence": confidence,
            "unknown": chance.random(count).astype(np.float32) / 2,
            "title": [f"The song number {n}" for n in numbers],
            "artist": [f"Artist {n // 40:05d}" for n in numbers],
            "album": [f"Album {n // 10:06d}" for n in numbers],
            "genre_before": [["Rock"] if n % 2 else [] for n in numbers],
            "chunk_scores": pa.ListArray.from_arrays(np.arange(0, count * CHUNKS + 1, CHUNKS, dtype=np.int32), chunks),
            "top": [[{"genre": g, "score": float(c)}] for g, c in zip(genre, confidence, strict=True)],
            "embedding": list(chance.integers(-100, 100, (count, 128)).astype(np.int8)),
        }
        same: dict[str, Any] = {
            "mtime": now, "container": "mp3", "codec": "mp3", "labels": list(labels), "chunk_starts_s": starts,
            "embedding_trunk": "t", "model_id": "paper", "model_fingerprint": "f", "vote": "mean", "run_id": "run-1",
            "processed_at": now,
        }  # fmt: skip
        columns = [
            (given[field.name] if isinstance(given[field.name], pa.Array) else pa.array(given[field.name])).cast(
                field.type
            )
            if field.name in given
            else pa.repeat(pa.scalar(same.get(field.name), field.type), count)
            for field in RESULTS
        ]
        pq.write_table(
            pa.table(columns, RESULTS), folder / "out" / "results" / f"run-1-{first:08x}.parquet", compression="zstd"
        )


def memory_mb(process: psutil.Process) -> float:
    """What is the server's alone, and its share of what is not (PSS)."""
    return float(process.memory_full_info().pss / 1e6)


def measure(page: Page, address: str, folder: Path) -> dict[str, float]:
    """Seconds."""
    found: dict[str, float] = {}
    page.wait_for_selector("#row-5 .title")
    page.wait_for_timeout(1500)
    found["first track playing after a click"] = page.evaluate(NEXT, "#row-3 .title")
    page.wait_for_timeout(1500)
    times = []
    for _ in range(8):
        times.append(page.evaluate(NEXT, "n"))
        page.wait_for_timeout(900)
    found["next track playing"] = statistics.median(times)
    page.keyboard.press(" ")
    found["a key's answer (J)"] = statistics.median(page.evaluate(CHANGED, ["key", "j", "#title"]) for _ in range(10))
    corrected = []
    for _ in range(6):
        corrected.append(page.evaluate(CHANGED, ["key", "3", "#title"]))
        page.wait_for_timeout(300)
    found["a correction and the next track"] = statistics.median(corrected)
    searches = ("1", "song 12", "album 0012", "artist 00017", "number 999")
    found["a search while typing"] = statistics.median(
        page.evaluate(CHANGED, ["type", text, "#count"]) for text in searches
    )
    page.evaluate(CHANGED, ["type", "", "#count"])
    heads = ("title", "artist", "genre", "file_genre")
    found["a sorted column, first time"] = max(
        page.evaluate(CHANGED, ["click", f"[data-order={head}]", ".spacer"]) for head in heads
    )
    page.goto(f"{address}/hear")
    song = synth.write(folder / "upload.mp3", synth.music(240, seed=2, channels=2))
    start = time.perf_counter()
    page.set_input_files("#files", song)
    page.wait_for_selector(".answer")
    found["first prediction of an upload"] = time.perf_counter() - start
    return found


def start(page: Page, folder: Path, starts: list[float]) -> tuple[subprocess.Popen[str], str]:
    """A server, its address, and, added to `starts`, the seconds until its first page has rows."""
    command = [sys.executable, "-m", "genrebeam", "app", str(folder / "out"), "--no-browser", "--port", "8599"]
    begun = time.perf_counter()
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    found = re.search(r"http://[^/]+", server.stdout.readline())
    assert found is not None
    page.goto(found[0], wait_until="commit")
    page.wait_for_selector("#row-5 .title")
    starts.append(time.perf_counter() - begun)
    return server, found[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory(prefix="genrebeam-bench-") as name, sync_playwright() as playwright:
        folder = Path(name)
        make_catalog(folder, rows)
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        starts = []
        for _ in range(STARTS):
            server, address = start(page, folder, starts)
            if len(starts) < STARTS:
                page.goto("about:blank")
                server.terminate()
                server.wait()
        with server:
            try:
                found = {"first page after the command": statistics.median(starts)}
                process = psutil.Process(server.pid)
                page.wait_for_timeout(2000)
                memory = {"memory when the page is there, MB": memory_mb(process)}
                found |= measure(page, address, folder)
                memory["memory after all of this, MB"] = memory_mb(process)
                memory["and of the process that decodes, MB"] = sum(map(memory_mb, process.children()))
            finally:
                server.terminate()
        browser.close()
    shown = {name: round(value, 3) for name, value in found.items()} | {n: round(mb) for n, mb in memory.items()}
    print(json.dumps({"rows": rows, **shown}, indent=2))


if __name__ == "__main__":
    main()
