"""An open file -> its container with tags and holes."""

from __future__ import annotations

import struct
from typing import BinaryIO

from genrebeam.features.errors import NotTaggable
from genrebeam.pipelines.tags.ape import Ape
from genrebeam.pipelines.tags.asf import Asf
from genrebeam.pipelines.tags.dsf import Dsf
from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.id3 import Id3v2
from genrebeam.pipelines.tags.iff import Iff
from genrebeam.pipelines.tags.model import Container, Source
from genrebeam.pipelines.tags.mp4 import Mp4
from genrebeam.pipelines.tags.mpeg import Stream
from genrebeam.pipelines.tags.ogg import Ogg
from genrebeam.pipelines.tags.sniff import Kind, sniff
from genrebeam.pipelines.tags.vorbis import Flac


def parse(file: BinaryIO) -> Container:
    """Parse the tags of an open file.

    Raises:
        NotTaggable: none of the containers known here.
        BrokenTag: the structure is damaged where a change would have to rely on it.
        OSError: the file cannot be read.
    """
    return parse_source(sniff(file), Source(file))


def parse_source(kind: Kind | None, source: Source) -> Container:
    """The same for a file of which only its bytes are at hand; raises as `parse` does."""
    try:
        return _container(kind, source)
    except (struct.error, IndexError) as error:
        raise source.broken(f"its structure ends in the middle ({error})") from error
    except BrokenTag as error:
        raise error if source.name in str(error) else source.broken(str(error)) from None


def _container(kind: Kind | None, source: Source) -> Container:
    match kind:
        case Kind.MP3 | Kind.TTA:
            return Stream(source, native=Id3v2)
        case Kind.APE:
            return Stream(source, native=Ape)
        case Kind.FLAC:
            return Flac(source)
        case Kind.OGG:
            return Ogg(source)
        case Kind.MP4:
            return Mp4(source)
        case Kind.ASF:
            return Asf(source)
        case Kind.WAV:
            return Iff(source, little=True)
        case Kind.AIFF:
            return Iff(source, little=False)
        case Kind.DSF:
            return Dsf(source)
    raise NotTaggable(f"{source.name}: not a kind of file that genrebeam can tag; left as it is")
