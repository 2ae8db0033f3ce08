"""From a parsed file to the tags it should have: setting a genre, and putting back what was there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from genrebeam.pipelines.tags.model import GENRE, PREFIX, Container, Field, Tag, refit
from genrebeam.pipelines.tags.read import TagValues


@dataclasses.dataclass(frozen=True)
class Kept:
    """Our fields of one tag as they stood in the file: what undo needs.

    Attributes:
        dialect: what `fields` are written in.
        exists: whether there was such a tag at all.
        slack: its padding in bytes.
        fields: position among the tag's fields, and the field's bytes.
    """

    dialect: str
    exists: bool
    slack: int
    fields: tuple[tuple[int, bytes], ...]


def keep(container: Container) -> tuple[Kept, ...]:
    """What there is of genre and provenance in each tag of a file."""
    return tuple(
        Kept(
            tag.dialect,
            tag.exists,
            tag.slack,
            tuple((i, field.raw) for i, field in enumerate(tag.fields) if tag.is_ours(field)),
        )
        for tag in container.tags
    )


def with_genre(container: Container, genres: Sequence[str], provenance: Mapping[str, Sequence[str]]) -> list[Tag]:
    """The file's tags with these genres, each in its own form, and with our provenance in the main one.

    Args:
        provenance: names without GENREBEAM_ in lower case, as `read.TagValues` has them.
    """
    result: list[Tag] = []
    for number, tag in enumerate(container.tags):
        if number == container.main:
            fields = _replaced(tag, tag.encode(GENRE, genres))
            fields = [field for field in fields if tag.is_genre(field) or not tag.is_ours(field)]
            if not tag.fields:
                fields = [*_carried(container), *fields]
            for name, values in provenance.items():
                fields += tag.encode(PREFIX + name.upper(), values)
            result.append(refit(tag, fields))
        elif any(tag.is_genre(field) for field in tag.fields):
            result.append(refit(tag, _replaced(tag, tag.encode(GENRE, genres))))
        else:
            result.append(tag)
    return result


def with_kept(container: Container, kept: Iterable[Kept], values: TagValues) -> list[Tag]:
    """The file's tags with genre and provenance as they were kept; everything else as it is now.

    Args:
        values: the same as `kept` in words, for a tag that somebody converted meanwhile (ID3v2.3 to 2.4): raw
            fields of one dialect make no sense in another.
    """
    before = {_family(tag.dialect): tag for tag in kept}
    result = []
    for number, tag in enumerate(container.tags):
        old = before.get(_family(tag.dialect))
        if old is None:
            result.append(tag)
            continue
        others = [field for field in tag.fields if not tag.is_ours(field)]
        if not old.exists and (not others or _carried(container) == tuple(others)):
            result.append(dataclasses.replace(tag, fields=(), exists=False, slack=old.slack))
        elif old.dialect == tag.dialect:
            for position, raw in old.fields:
                others.insert(position, Field(_key_of(tag, raw), raw))
            result.append(refit(tag, others, old.slack if old.exists else None))
        else:
            if number == container.main:
                others += tag.encode(GENRE, values.genres)
                for name, texts in values.provenance.items():
                    others += tag.encode(PREFIX + name.upper(), texts)
            result.append(refit(tag, others))
    return result


def _replaced(tag: Tag, new: Iterable[Field]) -> list[Field]:
    """The tag's fields with its genre fields replaced, where the first of them stood or at the end."""
    first = next((i for i, field in enumerate(tag.fields) if tag.is_genre(field)), len(tag.fields))
    others = [field for field in tag.fields if not tag.is_genre(field)]
    return [*others[:first], *new, *others[first:]]


def _carried(container: Container) -> tuple[Field, ...]:
    """What a main tag that was empty has to say so as not to hide tags from programs that will now prefer it."""
    words: dict[str, Sequence[str]] = {}
    for tag in container.tags:
        words = {**tag.words(), **words}
    words.pop(GENRE, None)
    return container.tags[container.main].carry(words)


def _family(dialect: str) -> str:
    return dialect.partition(".")[0]


def _key_of(tag: Tag, raw: bytes) -> str:
    """Some key that marks a restored field as ours; reading the file back finds the true one."""
    return next(iter(tag.genre_keys), "")
