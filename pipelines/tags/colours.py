"""A fixed colour for each genre, so that pictures, reports and the application agree. Pure."""

from __future__ import annotations

import colorsys
import zlib

from genrebeam.pipelines.tags.words import SYNONYMS, same

# Each has a lightness of its own, so grey print tells them apart, and the colour-blind can. Genres that are often heard
# together are far apart. Names stand beside colours all the same.
_COLOURS = {
    "pop": "#5680fd",
    "rock": "#f4ae07",
    "hiphop": "#b86b37",
    "electronic": "#7d0437",
    "jazz": "#aad7fe",
    "classical": "#163daa",
    "metal": "#69e39f",
    "country": "#4950d3",
    "rnb": "#b18794",
    "folk": "#a79af1",
    "blues": "#7c4305",
    "latin": "#9d5856",
    "disco": "#86bdc5",
    "reggae": "#de8707",
    "newage": "#457bb6",
    "world": "#595684",
}


def named_colours() -> dict[str, str]:
    """The colours of the known genres by the letters of each spelling, for programs that cannot call `colour_of`."""
    return _COLOURS | {spelling: _COLOURS[key] for spelling, key in SYNONYMS.items() if key in _COLOURS}


def colour_of(genre: str) -> str:
    """The colour of a genre in any spelling, as "#rrggbb". A word of a user's own has one that depends on the word."""
    key = same(genre)
    if key in _COLOURS:
        return _COLOURS[key]
    number = zlib.crc32(key.encode("utf-8", "surrogateescape"))
    hue, lightness = number % 360 / 360, (40 + number // 360 % 40) / 100
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, lightness, 0.5))
