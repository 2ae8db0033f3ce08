"""What a Flex template starts: `genrebeam tag`, with the library as an option, because templates know no arguments."""

from __future__ import annotations

import sys

from genrebeam.pipelines.cli import main


def arguments(given: list[str]) -> list[str]:
    """`--library A --output B` or `--library=A` as `tag A --output B`; several libraries are separated by blanks."""
    libraries: list[str] = []
    others: list[str] = []
    rest = iter(given)
    for argument in rest:
        name, has_value, value = argument.partition("=")
        if name == "--library":
            libraries += (value if has_value else next(rest, "")).split()
        else:
            others.append(argument)
    return ["tag", *libraries, *others]


if __name__ == "__main__":
    main(arguments(sys.argv[1:]))
