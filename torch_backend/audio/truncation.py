"""Tells from a recording's own structure whether its end is missing, where the decoder would stop without a word."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

_RIFF_NAMES = {b"RIFF": "<", b"RF64": "<", b"BW64": "<", b"RIFX": ">"}
_RIFF_SLACK_BYTES = 64
"""Some recorders count their header as sound; a cut file lacks far more."""
_LONGEST_OGG_PAGE = 27 + 255 + 255 * 255
_MP3_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")


def find_missing_end(path: Path) -> str | None:
    """Say in words what is missing at the end of a WAV or Ogg file; None when nothing is, or for other formats.

    Args:
        path: a readable file.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        name = file.read(4)
        if name in _RIFF_NAMES:
            return _missing_in_riff(file, size, _RIFF_NAMES[name])
        if name == b"OggS":
            return _missing_in_ogg(file, size)
    return None


def has_exact_mp3_length(path: Path) -> bool:
    """Whether an MP3 file states its number of frames; without that its length is only a guess from its size.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(10)
        start = 0
        if header[:3] == b"ID3" and len(header) == 10:
            start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(header[6:], (21, 14, 7, 0), strict=True))
        file.seek(start)
        first_frame = file.read(4096)
    return any(tag in first_frame for tag in _MP3_LENGTH_TAGS)


def _missing_in_riff(file: BinaryIO, size: int, order: str) -> str | None:
    """Compare the length that the data chunk announces with the file's."""
    file.seek(12)
    long_data_size = None
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", header)
        if name == b"ds64" and length >= 16:
            long_data_size = struct.unpack(f"{order}QQ", file.read(16))[1]
            length -= 16
        elif name == b"data":
            if length == 0xFFFFFFFF and long_data_size is not None:
                length = long_data_size
            elif _is_stream_length(length):
                return None
            present = size - file.tell()
            if length - present > _RIFF_SLACK_BYTES:
                return f"its header announces {length} bytes of sound, {present} are there"
            return None
        file.seek(length + length % 2, os.SEEK_CUR)
    return None


def _is_stream_length(length: int) -> bool:
    """Programs that write to a pipe cannot know the length and write a placeholder."""
    return length == 0 or length >= 0xFFFFFF00 or 0x7FFFF000 <= length <= 0x7FFFFFFF


def _missing_in_ogg(file: BinaryIO, size: int) -> str | None:
    """Check that the last page is whole."""
    start = max(0, size - _LONGEST_OGG_PAGE)
    file.seek(start)
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0:
        return None
    header = tail[page : page + 27]
    num_segments = header[26] if len(header) == 27 else 0
    segments = tail[page + 27 : page + 27 + num_segments]
    page_end = start + page + 27 + num_segments + sum(segments)
    if len(header) < 27 or len(segments) < num_segments or page_end > size:
        return "its last page is cut"
    return None
