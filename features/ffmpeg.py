"""FFmpeg through PyAV, shut in: it reads the file object that it is given, as one of the kinds of sound files below.

FFmpeg tells a file's kind by its content, and some kinds only describe where sound is to be had: an SDP text makes it
listen on the network, a playlist makes it open other files. So demuxers are named, and protocols there are none.
"""

from __future__ import annotations

from typing import Any, BinaryIO

# Kinds that hold their sound themselves. No SDP, RTSP, HLS, DASH, concat, image sequences, subtitles, devices.
_DEMUXERS = (
    "3dostr aa aac ac3 ac4 aea aiff amr amrnb amrwb apac ape asf asf_o ast au avi bonk caf dff dsf dss dts dtshd dv "
    "eac3 f4v flac flv fsb gsm hca hcom iamf iff ilbc ircam kux la laf lc3 loas matroska mca mlp mmf mov mp3 mpc mpc8 "
    "mpeg mpegts mpegvideo msf mtaf mxf nistsphere nsv nut ogg oma osq paf pvf qcp qoa rka rm rso sbc sds shn sln sol "
    "sox spdif swf tak truehd tta voc vqf w64 wady wav wavarc wsaud wsd wv xa xwma"
).replace(" ", ",")


def open_sound(file: BinaryIO, *, probe_bytes: int | None = None) -> Any:
    """An av.container.InputContainer over an open file, to be closed by the caller; the file stays open.

    Args:
        probe_bytes: how much may be read to find out what the header leaves open; FFmpeg's own limit is 5 MB.

    Raises:
        av.error.FFmpegError, ValueError, OSError: none of these kinds, or nothing that can be opened.
    """
    import av  # a tenth of a second, and most libraries never need it
    import av.logging

    av.logging.set_level(av.logging.PANIC)
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
    if probe_bytes:
        options["probesize"] = str(probe_bytes)
    return av.open(file, mode="r", metadata_errors="replace", options=options)
