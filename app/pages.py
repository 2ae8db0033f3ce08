"""The pages: the catalog, its numbers, hear a file, the model. Layout and words; what they show is made elsewhere."""

from __future__ import annotations

import base64
import collections
import logging
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.delta_generator import DeltaGenerator

from genrebeam.app import charts
from genrebeam.app.catalog import ORDERS, CatalogView, Filter, numbers
from genrebeam.app.hearing import HeardTrack
from genrebeam.app.served import served
from genrebeam.features.errors import GenrebeamError
from genrebeam.model.voting import UNKNOWN
from genrebeam.pipelines.dataset.corrections import Correction, words_of
from genrebeam.pipelines.jobs.show import NONE_OF_THESE
from genrebeam.pipelines.tags.words import same

_LOGGER = logging.getLogger(__name__)
_LISTED = 50  # tracks at a time
_OWN_WORDS = 8  # buttons for words that the model does not know
_KEYS = "1234567890"
_STATES = {"all": None, "corrected": True, "not yet": False}
_MARKUP = r"\`*_{}[]()<>#+-.!|~$:&"
_UNKNOWN = "There is no such track in this catalog."

_PICTURE = st.components.v2.component(
    "genrebeam_picture",
    html='<div class="frame"><img><div class="line"></div></div>',
    css=""".frame { position: relative; }
    img { width: 100%; display: block; cursor: crosshair; }
    .line { position: absolute; top: 6%; bottom: 6%; width: 2px; background: white; display: none; }
    .line { box-shadow: 0 0 0 1px black; pointer-events: none; }""",
    js=(resources.files("genrebeam.app") / "picture.js").read_text(encoding="utf-8"),
)


def run() -> None:
    """One visit to one page."""
    st.set_page_config(page_title="genrebeam", layout="wide")
    st.html("<style>.stMainBlockContainer { padding: 4rem 2.5rem; }</style>")
    pages = [
        st.Page(_catalog_page, title="Catalog", url_path="catalog"),
        st.Page(_numbers_page, title="Numbers", url_path="numbers"),
        st.Page(_upload_page, title="Hear a file", url_path="hear"),
        st.Page(_model_page, title="Model", url_path="model"),
    ]
    if served().catalog is None:
        pages = pages[2:]
    page = st.navigation(pages, position="top")
    try:
        page.run()
    except GenrebeamError as error:
        st.error(_plain(str(error)))
    except Exception as error:
        if served().debug:
            raise
        _LOGGER.exception("%s", page.title)
        st.error(_plain(f"A fault of genrebeam: {type(error).__name__}: {str(error)[:300]} (--debug shows where)"))


def _upload_page() -> None:
    with st.container(width=1000):
        _upload()


def _upload() -> None:
    st.title("Hear a file")
    sent = st.file_uploader("A piece of music, in any format", key="upload")
    if sent is None:
        return
    slot = st.empty()
    shown = _remembered(slot, "upload", sent.file_id, lambda: served().hearing.show_upload(sent.name, sent.getvalue()))
    with slot.container():
        if isinstance(shown, str):
            st.error(_plain(shown))
            return
        _heard_line(sent.name, shown.heard.genre, shown.heard.confidence, list(shown.heard.top), shown.heard.is_unknown)
        _play_and_draw(shown, sent.name, autoplay=False)


def _catalog_page() -> None:
    catalog = served().catalog
    assert catalog is not None
    view = catalog.view()
    if not len(view.tracks):
        st.info("Nothing was heard here: every file of this catalog was rejected. `genrebeam report` says why.")
        return
    rows = view.find(_filter(view))
    chosen = st.query_params.get("track")
    at = None if chosen is None else view.position(rows, chosen)
    if st.session_state.pop("moved", False) and at is not None:
        st.session_state["page"] = at // _LISTED
    left, right = st.columns([3, 4], gap="large")
    with left:
        _list(view, rows, at)
    with right:
        if chosen is not None:
            _track(view, chosen, rows, at)
        else:
            st.info("Choose a track. Then Space plays it, Y says it is right, 1 to 0 correct it, N is the next.")


def _filter(view: CatalogView) -> Filter:
    with st.sidebar:
        text = st.text_input("Search", placeholder="part of a name")
        folder = st.text_input("Folder", placeholder="how its name begins", key="folder")
        genres = st.multiselect("Genre", view.genres())
        low, high = st.slider("Confidence", 0, 100, (0, 100), format="%d %%")
        state = st.radio("Show", list(_STATES), horizontal=True)
        order = st.selectbox("Order", ORDERS)
        st.toggle("After a correction, go on to the next", value=True, key="go_on")
        st.toggle("Play at once", key="play")
    wanted = Filter(tuple(genres), (low / 100, high / 100), folder, text, _STATES[state], order)
    if st.session_state.get("filter") != wanted:
        st.session_state["filter"], st.session_state["page"] = wanted, 0
    return wanted


def _list(view: CatalogView, rows: NDArray[np.int64], at: int | None) -> None:
    last = max(0, (len(rows) - 1) // _LISTED)
    page = min(st.session_state.get("page", 0), last)
    shown = view.page(rows[page * _LISTED : (page + 1) * _LISTED])
    key = f"list-{page}-{hash(st.session_state['filter'])}"
    here = None if at is None else at - page * _LISTED
    if not shown:
        st.info("No track is like that.")
        return

    def choose() -> None:
        cells = st.session_state[key]["selection"]["cells"]
        if cells:
            st.query_params["track"] = shown[cells[0][0]]["track_id"]

    st.dataframe(
        [
            {
                "": "▶" if i == here else "✓" if row["corrected"] else "",
                "genre": row["genre"] or "–",
                "sure": 100 * (row["confidence"] or 0),
                "track": row["track_id"],
            }
            for i, row in enumerate(shown)
        ],
        key=key,
        hide_index=True,
        height=35 * (len(shown) + 1) + 3 if len(shown) < 18 else 640,
        on_select=choose,
        selection_mode="single-cell",
        column_config={
            "": st.column_config.TextColumn(width=24),
            "genre": st.column_config.TextColumn(width=90),
            "sure": st.column_config.ProgressColumn(min_value=0, max_value=100, format="%.0f %%", width=100),
            "track": st.column_config.TextColumn(width="large"),
        },
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        first = page * _LISTED + 1
        st.markdown(f"**{first:,} to {first + len(shown) - 1:,}** of {len(rows):,}", width="stretch")
        st.button("Back", on_click=_go_to_page, args=(page - 1,), disabled=page == 0)
        st.button("On", on_click=_go_to_page, args=(page + 1,), disabled=page == last)


def _go_to_page(page: int) -> None:
    st.session_state["page"] = page


def _track(view: CatalogView, track_id: str, rows: NDArray[np.int64], at: int | None) -> None:
    row = view.track(track_id)
    if row is None:
        st.warning(_UNKNOWN)
        return
    before = view.name(rows, at - 1) if at is not None else None
    following = view.name(rows, at + 1 if at is not None else 0)  # where a filter hides it: the first that is listed
    folder, _, name = track_id.rpartition("/")
    top = [(one["genre"], one["score"]) for one in row["top"] or []]
    _heard_line(name, row["genre"], row["confidence"], top, (row["unknown"] or 0.0) > UNKNOWN)
    said = view.corrections.get(track_id)
    _state_line(row, said)
    _correct(view, track_id, row["genre"], said, following)
    with st.container(horizontal=True):
        st.button("Previous", shortcut="P", on_click=_choose, args=(before,), disabled=before is None)
        st.button("Next", shortcut="N", on_click=_choose, args=(following,), disabled=following is None)
        if folder:
            st.button("This folder", on_click=_only_folder, args=(f"{folder}/",))
    slot = st.empty()  # so that the player of the track before is gone while this one is heard
    shown = _remembered(slot, "track", track_id, lambda: served().hearing.show(row["uri"]))
    with slot.container():
        if isinstance(shown, str):
            st.error(_plain(shown))
            return
        bundle = served().hearing.tagger.bundle
        if row["model_fingerprint"] != bundle.fingerprint:
            other = f"The catalog was heard by {row['model_id']}; the picture is what {bundle.model_id} hears."
            st.caption(_plain(other))
        _play_and_draw(shown, name, autoplay=st.session_state.get("play", False))


def _choose(track_id: str | None) -> None:
    if track_id is not None:
        st.query_params["track"] = track_id
        st.session_state["moved"] = True


def _only_folder(folder: str) -> None:
    st.session_state["folder"] = folder


def _heard_line(
    name: str, genre: str | None, confidence: float | None, top: list[tuple[str, float]], unknown: bool
) -> None:
    st.subheader(_plain(name))
    others = ", ".join(f"{other} {score:.0%}" for other, score in top if other != genre and score >= 0.005)
    rest = f" :gray[({_plain(others)})]" if others else ""
    doubt = f" :orange[{NONE_OF_THESE}]" if unknown else ""
    st.markdown(f"Heard: **{_plain(genre or 'nothing')}** {confidence or 0:.0%}{rest}{doubt}")


def _state_line(row: dict[str, Any], said: Correction | None) -> None:
    parts = []
    if said:
        who = f" by {said.by}" if said.by else ""
        parts.append(f"✓ **{_plain(said.genre)}**, said{_plain(who)} on {said.at:%Y-%m-%d}")
    if row["genre_before"]:
        parts.append(f"in the file: {_plain('; '.join(row['genre_before']))}")
    if row["undecoded_s"]:
        parts.append(f":red[damaged: {row['undecoded_s']:.1f} s of it could not be decoded]")
    if parts:
        st.markdown(" · ".join(parts))


def _correct(
    view: CatalogView, track_id: str, heard: str | None, said: Correction | None, following: str | None
) -> None:
    catalog = served().catalog
    assert catalog is not None

    def say(genre: str | None) -> None:
        try:
            catalog.say(track_id, genre, by=served().by)
        except GenrebeamError as error:
            st.toast(_plain(str(error)))
            return
        except OSError as error:
            st.toast(_plain(f"Not saved: {catalog} cannot be written ({error.strerror or error})"))
            return
        st.toast(_plain(f"{track_id}: {'withdrawn' if genre is None else genre}"))
        if genre is not None and st.session_state.get("go_on"):
            _choose(following)

    def say_own() -> None:
        if st.session_state["own"].strip():
            say(st.session_state["own"])
            st.session_state["own"] = ""

    with st.container(horizontal=True, gap="small"):
        if heard:
            st.button(
                f"{_plain(heard)} is right", key="right", shortcut="Y", type="primary", on_click=say, args=(heard,)
            )
        for i, word in enumerate(_words(view)):
            chosen = said is not None and same(word) in {same(one) for one in words_of(said.genre)}
            st.button(
                f"✓ {_plain(word)}" if chosen else _plain(word),
                key=f"say-{word}",
                shortcut=_KEYS[i] if i < len(_KEYS) else None,
                on_click=say,
                args=(word,),
            )
        if said:
            st.button("Withdraw", key="withdraw", shortcut="W", on_click=say, args=(None,))
    st.text_input(
        "Another genre", key="own", on_change=say_own, max_chars=200, placeholder="Another genre, and Enter",
        label_visibility="collapsed",
    )  # fmt: skip


def _words(view: CatalogView) -> list[str]:
    """The model's genres, then the words that people use most beside them."""
    labels = [*served().hearing.labels]
    known = {same(label) for label in labels}
    own = collections.Counter(
        word for one in view.corrections.values() for word in words_of(one.genre) if same(word) not in known
    )
    return labels + [word for word, _ in own.most_common(_OWN_WORDS)]


def _play_and_draw(shown: HeardTrack, name: str, *, autoplay: bool) -> None:
    st.audio(shown.sound.data, format=shown.sound.mime, autoplay=autoplay)
    if shown.sound.cut:
        st.caption(f"The player has the first {shown.sound.cut // 60} minutes.")
    heard = shown.heard
    _PICTURE(
        key=f"picture-{hash(name)}",  # Streamlit takes no two underscores in it
        data={
            "png": "data:image/png;base64," + base64.b64encode(shown.picture.png).decode(),
            "left": shown.picture.left,
            "right": shown.picture.right,
            "duration_s": heard.audio.duration_s,
            "alt": f"Waveform, spectrogram and genres over time: {heard.genre}, {heard.confidence:.0%} sure",
        },
    )
    audio = heard.audio
    length = f"{int(audio.duration_s) // 60}:{int(audio.duration_s) % 60:02d}"
    channels = "mono" if audio.channels == 1 else f"{audio.channels} channels"
    st.caption(
        f"{length}, {audio.container}, {audio.codec}, {audio.sample_rate_hz / 1000:g} kHz, {channels}. "
        "A click in the picture moves the player."
    )


def _remembered(slot: DeltaGenerator, kind: str, key: str, make: Callable[[], HeardTrack]) -> HeardTrack | str:
    """What was heard of the track that this visitor looks at, or a sentence that says why not. The latest is kept."""
    known = st.session_state.get(f"shown-{kind}")
    if known is None or known[0] != key:
        with slot, st.spinner("Listening ..."):
            try:
                known = (key, make())
            except GenrebeamError as error:
                known = (key, str(error))
            except OSError as error:
                known = (key, f"It cannot be read: {error.strerror or error}")
        st.session_state[f"shown-{kind}"] = known
    return known[1]


def _numbers_page() -> None:
    catalog = served().catalog
    assert catalog is not None
    found = numbers(catalog.view())
    st.title("The catalog in numbers")
    with st.container(horizontal=True):
        st.metric("tracks", f"{found.tracks:,}")
        st.metric("hours", f"{found.hours:,.1f}")
        st.metric("corrected or confirmed", f"{found.said:,}")
        if found.said:
            st.metric("of these the model was right for", f"{found.right / found.said:.0%}")
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Genres")
        st.caption("What counts of each track: your word, else what was heard.")
        st.altair_chart(charts.bars(found.genres, name="genre"))
    with right:
        st.subheader("Confidence")
        st.caption("How sure the model was.")
        st.altair_chart(charts.histogram(found.confidence))
    st.subheader("Folders")
    st.dataframe(
        [{"folder": name, "tracks": count, "genres": genres} for name, count, genres in found.folders], hide_index=True
    )
    if found.damaged:
        st.subheader("Damaged files")
        st.caption("Seconds that could not be decoded.")
        st.dataframe([{"track": name, "seconds": round(s, 1)} for name, s in found.damaged], hide_index=True)


def _model_page() -> None:
    bundle = served().hearing.tagger.bundle
    st.title(_plain(bundle.model_id))
    st.caption(f"{len(bundle.labels)} genres: {_plain(', '.join(bundle.labels))}. Fingerprint {bundle.fingerprint}.")
    figures = charts.figures_of(bundle)
    accuracy = figures["track_accuracy"]
    with st.container(horizontal=True):
        st.metric("right, of tracks it never heard", f"{accuracy['value']:.0%}")
        st.metric("95 % interval", f"{accuracy['low']:.0%} to {accuracy['high']:.0%}")
        st.metric("right genre among the best three", f"{figures['top3_accuracy']:.0%}")
        st.metric("macro F1", f"{figures['macro_f1']:.2f}")
        st.metric("calibration error", f"{figures['calibration']['ece']:.3f}")
    if "measured_on" in figures:
        st.caption(f"Measured on {figures['tracks']:,} tracks: {_plain(str(figures['measured_on']))}.")
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Genres")
        st.dataframe(
            [{"genre": name, **scores} for name, scores in figures["per_genre"].items()],
            hide_index=True,
            height=35 * (len(figures["per_genre"]) + 1) + 3,
            column_config={
                name: st.column_config.ProgressColumn(label, min_value=0, max_value=1, format="%.2f")
                for name, label in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
            },
        )
        st.caption("Precision: how often it is right where it says so. Recall: how many of that genre it finds.")
    with right:
        st.subheader("What is taken for what")
        st.altair_chart(charts.confusion(figures["confusion"], bundle.labels))
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Calibration")
        st.altair_chart(charts.calibration(figures["calibration"]["curve"]))
        st.caption("How often it is right where it is so sure; on the dashed line it is as sure as it should be.")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: names of files may hold anything."""
    return "".join(f"\\{char}" if char in _MARKUP else char for char in " ".join(text.split()))
