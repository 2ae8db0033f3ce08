"""Own words in the application: learn in a child process, tags to check, what to tag next, and words for all tracks."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tagfiles

from genrebeam.app.catalog import Catalog, Filter
from genrebeam.app.learning import Learning
from genrebeam.features.errors import UsageError
from genrebeam.features.schema import Track
from genrebeam.model.bundle import DEFAULT, load_config
from genrebeam.pipelines.dataset.schema import RESULTS

pytest.importorskip("sklearn", reason="SKIPPED: learning, for want of scikit-learn (pip install 'genrebeam[train]')")
SPACE = load_config(DEFAULT).embedding
WORDS = ("Kölsch", "Salsa", "Zouk")
WRONG = "Zouk 0/0.mp3"  # its tag says Salsa


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three words, five artists each, four songs each, as rows; the last artist of each has no tags."""
    folder, rows = tmp_path_factory.mktemp("learning"), []
    for at, word in enumerate(WORDS):
        for artist in range(5):
            for number in range(4):
                name = f"{word} {artist}/{number}.mp3"
                (row,) = tagfiles.result_rows({Track(f"/music/{name}", name, 1, 0.0): [("pop", 0.6)]})
                rng = np.random.default_rng([at, artist, number])
                vector = np.random.default_rng(at).normal(0, 25, SPACE.size) + rng.normal(0, 12, SPACE.size)
                tags = [] if artist == 4 else ["Salsa"] if name == WRONG else [word]
                row |= {"embedding": np.clip(np.rint(vector), -127, 127).astype(int).tolist()}
                rows.append(row | {"embedding_trunk": SPACE.trunk, "genre_before": tags, "genre_user": tags})
    (folder / "results").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, RESULTS), folder / "results" / "run-1.parquet")
    return folder


def finished(learning):
    end = time.monotonic() + 120
    while learning.state.doing:
        assert time.monotonic() < end
        time.sleep(0.02)
    return learning.state


def test_words_are_learned_doubts_are_listed_answered_and_all_tracks_get_words(folder):
    catalog = Catalog(folder)
    learning = Learning(catalog)
    with pytest.raises(UsageError, match="nothing has been learned"):
        learning.retag(Filter())
    learning.learn()
    state = finished(learning)
    assert state.message == "" and {one["word"]: one["verdict"] for one in state.learned["figures"]} == dict.fromkeys(
        WORDS, "heard well"
    )
    view = catalog.view()
    doubtful = view.page(view.find(Filter(shown="check", order="match")))
    assert doubtful[0]["track_id"] == WRONG
    assert view.track(WRONG)["doubt"]["heard"] == "Zouk" and view.track(WRONG)["doubt"]["words"] == ("Salsa",)
    catalog.say({WRONG: "Zouk"}, by="")
    assert WRONG not in [row["track_id"] for row in catalog.view().page(catalog.view().find(Filter(shown="check")))]
    asked = [row["track_id"] for row in view.page(view.find(Filter(shown="next", order="match")))]
    assert asked == state.learned["next"] and all(" 4/" in name for name in asked)
    learning.retag(Filter(folder="Zouk 4/"))
    assert finished(learning).message == "4 tracks have answers in your words now."
    words = {row["track_id"]: row["genre"] for row in catalog.view().page(catalog.view().find(Filter()))}
    assert {genre for name, genre in words.items() if name.startswith("Zouk 4/")} == {"Zouk"}
    assert words["Salsa 4/0.mp3"] == "pop"
    assert Learning(catalog).bundle.labels == WORDS  # a later server finds it


def test_more_like_this_is_of_the_same_word(folder):
    view = Catalog(folder).view()
    alike = view.page(view.find(Filter(like="Salsa 0/0.mp3"))[:15])
    assert {row["track_id"].split()[0] for row in alike} == {"Salsa"} and len(alike) == 15
    with pytest.raises(UsageError, match="no such track"):
        view.find(Filter(like="nobody"))


def test_what_hinders_learning_is_a_sentence(tmp_path):
    tagfiles.results_of_tracks(tmp_path, {Track("/a.mp3", "a.mp3", 1, 0.0): [("pop", 0.6)]})
    learning = Learning(Catalog(tmp_path))
    learning.learn()
    assert "none of its 1 rows has an embedding" in finished(learning).message
    with pytest.raises(UsageError, match="no embedding"):
        Catalog(tmp_path).view().find(Filter(like="a.mp3"))


def test_the_server_itself_imports_no_scikit_learn():
    code = "import sys, genrebeam.app.server; print(*{'sklearn', 'pandas', 'tensorflow', 'librosa'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
