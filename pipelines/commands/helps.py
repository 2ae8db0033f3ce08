"""How helps are arranged: commands and options by how often people need them, and examples. No heavy imports."""

from __future__ import annotations

from collections.abc import Iterable

import click

# Every command is in one of them; `genrebeam --help` has them in this order.
COMMAND_SECTIONS = {
    "Every day": ("tag", "report", "app", "show", "playlist", "correct", "doctor"),
    "Tags in your files": ("apply", "undo"),
    "Genres of your own": ("learn", "shards", "train", "evaluate", "compare"),
}

# Options that are not here come first, under the title Options.
OPTION_SECTIONS = {
    "Writing into your files": (
        "--write-tags", "--min-confidence", "--max-unknown", "--max-genres", "--genre-map", "--useless", "--touch",
        "--even-if-edited", "--hard-links", "--dry-run", "--yes",
    ),
    "Seldom needed": (
        "--batch-size", "--features-output", "--features-input", "--retry-rejects", "--max-reject-share",
        "--write-every", "--track-timeout",
    ),
    "Clusters": ("--runner", "--shared-filesystem", "--worker-timeout"),
}  # fmt: skip

EXAMPLES = {
    "tag": (
        ("genrebeam tag ~/Music --output tagged", "hear everything; a second run hears what is new"),
        ("genrebeam tag ~/Music --output tagged --write-tags fill", "the same, and write genres where there are none"),
    ),
    "apply": (
        ("genrebeam apply tagged --dry-run", "look; nothing is written"),
        ("genrebeam apply tagged --min-confidence 0.8", "write only genres with a score of 0.8 or more"),
        ("genrebeam apply tagged --genre-map tree", "write Rock and Metal where Metal is heard, and so on"),
    ),
    "undo": (
        ("genrebeam undo tagged --dry-run", "look; nothing is written"),
        ("genrebeam undo tagged", "put the former genres back"),
    ),
    "correct": (
        ("genrebeam correct tagged ~/Music/song.mp3 Zouk", "your word for it"),
        ("genrebeam correct tagged song.mp3 --withdraw", "take your word back"),
    ),
    "learn": (
        ("genrebeam learn tagged --output my-words", "learn from the genres in your files"),
        ("genrebeam tag ~/Music --output tagged --model my-words", "use them; no music is heard again"),
    ),
    "playlist": (
        ("genrebeam playlist tagged --like song.mp3 --hours 2", "two hours that sound like it"),
        ("genrebeam playlist tagged --genre jazz --output jazz.m3u8", "fifty tracks of jazz"),
    ),
    "show": (("genrebeam show song.mp3", "draw it, and open the picture"),),
    "app": (("genrebeam app tagged", "listen, look and correct in the browser"),),
    "report": (("genrebeam report tagged --output music.html", "a page to keep or send"),),
    "doctor": (("genrebeam doctor", "check this machine"),),
    "shards": (("genrebeam shards ~/Music --labels labels.csv --output shards", "features and labels to train on"),),
    "train": (("genrebeam train shards --output my-model", "an interrupted training goes on with the same command"),),
    "evaluate": (
        ("genrebeam evaluate my-model shards --output figures", "how good it is on tracks that it never heard"),
    ),
    "compare": (("genrebeam compare shards --output comparison", "whether something simpler would do"),),
}


def examples_of(name: str) -> str:
    """The examples of a command as the end of its help."""
    lines = [line for command, meaning in EXAMPLES.get(name, ()) for line in (f"  {command}", f"      {meaning}")]
    return "\b\n" + "\n".join(["Examples:", *lines]) if lines else ""


def write_options(ctx: click.Context, parameters: Iterable[click.Parameter], formatter: click.HelpFormatter) -> None:
    """The options of a command in their sections."""
    section_of = {name: title for title, names in OPTION_SECTIONS.items() for name in names}
    records: dict[str, list[tuple[str, str]]] = {"Options": [], **{title: [] for title in OPTION_SECTIONS}}
    for parameter in parameters:
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record:
            records[section_of.get(parameter.opts[0], "Options")].append(record)
    for title, found in records.items():
        if found:
            with formatter.section(title):
                formatter.write_dl(found)
