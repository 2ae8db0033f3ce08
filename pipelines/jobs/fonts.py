"""Fonts for names of any script, out of those that this machine has."""

from __future__ import annotations

from typing import NamedTuple

_FIRST = "DejaVu Sans"  # comes with matplotlib: Latin, Greek, Cyrillic, Hebrew, Arabic
_NO_FONT = "Last Resort"  # comes with it too, and has a box for every letter


class Fonts(NamedTuple):
    """Families to draw a text with, in the order in which they are asked, and the letters that none of them has."""

    families: list[str]
    missing: str


def fonts_for(text: str) -> Fonts:
    """Families that have the letters of a text between them, as few as can be found one after the other."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    families = [_FIRST]
    missing = {ord(char) for char in text if not char.isspace()}
    missing -= set(FT2Font(font_manager.findfont(_FIRST)).get_charmap())
    if missing:
        regular = [
            font
            for font in font_manager.fontManager.ttflist
            if font.style == "normal" and str(font.weight) in ("400", "normal") and not font.name.startswith(_NO_FONT)
        ]
        for font in sorted(regular, key=lambda font: (font.name, font.fname)):
            try:
                letters = set(FT2Font(font.fname).get_charmap())
            except (OSError, RuntimeError):  # a font that went away or that FreeType cannot read
                continue
            if letters & missing:
                families.append(font.name)
                missing -= letters
            if not missing:
                break
    return Fonts(families, "".join(chr(number) for number in sorted(missing)))
