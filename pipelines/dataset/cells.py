"""Text in CSV files that spreadsheets open.

A cell that begins like a formula is one to a spreadsheet, whoever wrote it: the name of a file could call a program.
Such text gets an apostrophe in front, which spreadsheets do not show (OWASP, "CSV Injection").
"""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def harmless(text: str) -> str:
    """Text as a cell that is no formula."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def original(cell: str) -> str:
    """The text that `harmless` has made this of."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell
