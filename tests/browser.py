"""A real browser for tests: Debian's Chromium (or CHROMIUM=file), driven by Playwright."""

from __future__ import annotations

import os
import shutil

import pytest

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="SKIPPED: the browser test, for want of Playwright (it is in the extra `test`)"
)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="SKIPPED: the browser test, for want of a browser (apt install chromium)"),
]
