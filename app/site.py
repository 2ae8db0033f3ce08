"""The pages: HTML around what the routes of api.py say, and pages that need no script at all."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

import jinja2
from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.responses import Response

from genrebeam.app.catalog import SHOWN, Filter
from genrebeam.app.numbers import figures_of, numbers, rejected
from genrebeam.app.served import Served, clock, shown
from genrebeam.features.errors import UsageError
from genrebeam.model.voting import MIN_CONFIDENCE
from genrebeam.pipelines.tags.colours import named_colours

PAGES = (
    ("/", "Catalog"),
    ("/numbers", "Numbers"),
    ("/words", "Your words"),
    ("/write", "Write"),
    ("/hear", "Hear a file"),
    ("/model", "Model"),
)
_WITHOUT_CATALOG = ("/hear", "/model")
POLICIES = {
    "fill": "where there is no genre",
    "merge": "add to what is there",
    "overwrite": "replace what is there",
}
KEYS = (
    ("Space", "play, stop"),
    ("N, P", "play the next, the previous track of the list"),
    ("J, K, ↓, ↑", "the next, the previous track, without playing it"),
    ("← →", "five seconds back, forward"),
    ("Y", "the model is right"),
    ("1 to 9, 0", "choose the genre on that button"),
    ("G", "type another genre; Enter saves it, Escape clears it"),
    ("W", "withdraw what you said of the track"),
    ("Z", "undo the last correction"),
    ("X", "select the track; corrections are then for all that are selected"),
    ("M", "more like this"),
    ("E, T", "of a tag to check: keep it, or take what was heard"),
    ("/", "search"),
    ("?", "this list"),
)


@functools.cache
def _templates() -> jinja2.Environment:
    folder = resources.files("genrebeam.app") / "templates"
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(folder)), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    made.filters |= {
        "share": lambda value: "–" if value is None else f"{value:.0%}".replace("%", " %"),
        "count": lambda value: f"{value:,}",
        "genre": shown,
        "clock": clock,
    }
    return made


def page(template: str, served: Served | None, here: str, **values: Any) -> HTMLResponse:
    """A page of the application."""
    has_catalog = served is not None and served.catalog is not None
    pages = [one for one in PAGES if has_catalog or one[0] in _WITHOUT_CATALOG]
    place = str(served.catalog) if served is not None and served.catalog is not None else ""
    return HTMLResponse(
        _templates()
        .get_template(template)
        .render(pages=pages, here=here, place=place, colours=named_colours(), **values)
    )


def sentence(why: str, status: int) -> HTMLResponse:
    """A page that says what went wrong."""
    answer = page("sentence.html.j2", None, "", why=why)
    answer.status_code = status
    return answer


def routes(served: Served) -> APIRouter:
    """The pages over what a server shows; not part of the API's description."""
    site = APIRouter(include_in_schema=False)

    @site.get("/")
    def catalog() -> Response:
        if served.catalog is None:
            return RedirectResponse("/hear")
        view = served.catalog.view()
        return page("catalog.html.j2", served, "/", tracks=len(view), shown=SHOWN, keys=KEYS)

    @site.get("/hear")
    def hear() -> Response:
        return page("hear.html.j2", served, "/hear", labels=[shown(label) for label in served.hearing.labels])

    @site.get("/write")
    def write() -> Response:
        names = {"": "as the model says", "tree": "broad genres (tree)", "musicbrainz": "MusicBrainz's words"}
        return page("write.html.j2", served, "/write", catalog=str(served.found), policies=POLICIES, names=names)

    @site.get("/numbers")
    def numbers_page() -> Response:
        found, others = numbers(served.found.view()), rejected(served.found.dataset, served.found.view())
        values = {"most": max(found.genres.values(), default=1), "rejected": sum(one.files for one in others)}
        return page("numbers.html.j2", served, "/numbers", found=found, min_confidence=MIN_CONFIDENCE, **values)

    @site.get("/rejected")
    def rejected_page() -> Response:
        return page("rejected.html.j2", served, "", found=rejected(served.found.dataset, served.found.view()))

    @site.get("/words")
    def words() -> Response:
        view, bundle, learned = served.found.view(), served.learning.bundle, served.learning.state.learned
        figures = figures_of(bundle) if bundle is not None else {}
        values = {
            "words": learned.get("figures") or figures.get("words", ()),
            "promise": learned.get("promise") or figures.get("promise"),
            "alike": learned.get("alike") or figures.get("alike", ()),
            "spellings": learned.get("spellings") or figures.get("spellings", {}),
            "checks": len(view.find(Filter(shown="check"))),
            "asked": len(view.find(Filter(shown="next"))),
            "corrections": len(view.said),
            "tagged": int((~view.tracks.untagged).sum()),
        }
        return page("words.html.j2", served, "/words", bundle=bundle, **values)

    @site.get("/model")
    def model() -> Response:
        bundle = served.hearing.bundle
        try:
            figures, problem = figures_of(bundle), ""
        except UsageError as error:
            figures, problem = {}, str(error)
        promise, words = figures.get("promise"), figures.get("words", ())
        values = {"figures": figures, "problem": problem, "promise": promise, "words": words}
        return page("model.html.j2", served, "/model", bundle=bundle, **values)

    return site
