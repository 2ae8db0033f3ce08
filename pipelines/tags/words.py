"""When two words mean the same genre. Pure."""

from __future__ import annotations

import re
import unicodedata

# What people write for the same genre, as `letters` leaves it. Only words that mean the same; no hierarchy.
SYNONYMS = {
    "rap": "hiphop",
    "hiphoprap": "hiphop",
    "raphiphop": "hiphop",
    "hiphopandrap": "hiphop",
    "rapandhiphop": "hiphop",
    "countryandwestern": "country",
    "countrymusic": "country",
    "classicalmusic": "classical",
    "popmusic": "pop",
    "rockmusic": "rock",
    "rocknroll": "rockandroll",
    "randb": "rnb",
    "rhythmandblues": "rnb",
    "electronica": "electronic",
    "worldmusic": "world",
    "dnb": "drumandbass",
    "drumnbass": "drumandbass",
}


def letters(text: str) -> str:
    """A genre's letters and digits: "Hip-Hop", "hip hop" and "HipHop" are one, "R&B" is randb."""
    plain = unicodedata.normalize("NFKD", text).casefold().replace("&", "and")
    return "".join(char for char in plain if char.isalnum())


def same(genre: str) -> str:
    """A key that is equal for spellings and synonyms of one genre."""
    key = letters(genre)
    return SYNONYMS.get(key, key) or genre.strip()


def keys(genre: str) -> set[str]:
    """The keys of a value and of its parts: "Hip Hop/Rap" covers both, "Pop; Rock" too."""
    return {same(part) for part in (genre, *re.split(r"[/;,|\\]", genre)) if part.strip()}
