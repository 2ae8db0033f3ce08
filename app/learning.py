"""Learning a catalog's own words from the application, and giving them to tracks that were heard before."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa

from genrebeam.app.catalog import Catalog, Filter
from genrebeam.features.errors import GenrebeamError, UsageError
from genrebeam.model.bundle import Bundle
from genrebeam.pipelines.dataset.inputs import bundle_at
from genrebeam.pipelines.jobs.rescore import rescore
from genrebeam.pipelines.storage.folders import is_local

BUNDLE = "my-words"
_TOP = 3  # genres listed per track, as `genrebeam tag` does


@dataclasses.dataclass
class State:
    """What learning is doing, and what came of it.

    Attributes:
        doing: "learning", "retagging", or nothing.
        learned: the report of the last `learn`, as app/learner.py prints it; empty where there was none.
        message: what went wrong, or how the last step ended.
    """

    doing: str = ""
    learned: dict[str, Any] = dataclasses.field(default_factory=dict)
    message: str = ""


class Learning:
    """One step at a time, in a thread of its own. The bundle goes into the results folder, as my-words."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        folder = catalog.dataset.folder
        self.place = Path(folder.uri if is_local(folder) else ".").absolute() / BUNDLE
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self.state = State()

    @property
    def bundle(self) -> Bundle | None:
        """What was learned last, now or by an earlier server; None where nothing was."""
        try:
            return bundle_at(str(self.place)) if self.place.is_dir() else None
        except GenrebeamError:
            return None

    def learn(self) -> None:
        """Begin to learn from corrections and the files' own tags; raises UsageError where a step is active."""
        self._begin("learning", self._learn)

    def retag(self, wanted: Filter) -> None:
        """Begin to give the learned words to what a filter lists; raises UsageError where nothing was learned."""
        bundle = self.bundle
        if bundle is None or bundle.embedding is None:
            raise UsageError("nothing has been learned yet")
        view = self._catalog.view()
        known, _, trunks = view.tracks.embeddings
        ours = set(known[trunks == bundle.embedding.trunk].tolist())
        rows = pa.array([row for row in view.find(wanted).tolist() if row in ours], pa.int64())
        names, uris = (view.tracks[name].take(rows).to_pylist() for name in ("track_id", "uri"))
        self._begin("retagging", lambda: self._retag(bundle, dict(zip(names, uris, strict=True))))

    def close(self) -> None:
        """End a step that is active."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def _begin(self, doing: str, step: Any) -> None:
        with self._lock:
            if self.state.doing:
                raise UsageError(f"it is {self.state.doing} already; wait for it")
            self.state = State(doing, self.state.learned)
        threading.Thread(target=self._run, args=(step,), name="learn", daemon=True).start()

    def _run(self, step: Any) -> None:
        try:
            self.state.message = step()
        except (GenrebeamError, OSError) as error:
            self.state.message = str(error)
        except Exception as error:
            self.state.message = f"A fault of genrebeam: {type(error).__name__}: {str(error)[:300]}"
        finally:
            self._catalog.look_again()
            self.state.doing = ""

    def _learn(self) -> str:
        command = [sys.executable, "-m", "genrebeam.app.learner", str(self._catalog.dataset), str(self.place)]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said, errors = self._child.communicate()
        try:
            learned = json.loads(said)
        except ValueError:
            return f"learning ended with exit code {self._child.returncode}: {(errors.splitlines() or [''])[-1][:300]}"
        if "error" in learned:
            return str(learned["error"])
        self.state.learned = learned
        self._catalog.asked = tuple(learned["next"])
        return f"Nothing was learned: {learned['reason']}" if learned["reason"] else ""

    def _retag(self, bundle: Bundle, places: dict[str, str]) -> str:
        dataset = self._catalog.dataset
        with dataset.lock():
            run_id = dataset.new_run_id(dt.datetime.now(dt.timezone.utc))
            count = rescore(dataset, bundle, run_id, places, top_k=_TOP)
        return f"{count:,} tracks have answers in your words now."
