"""Whether an MP4 file is whole: Blender reports no error when the disk fills up while it encodes."""

from __future__ import annotations

import struct
from pathlib import Path


def is_complete_mp4(path: Path) -> bool:
    """Return whether the file's boxes (ISO/IEC 14496-12, section 4.2) end with the file and include the index."""
    size = path.stat().st_size
    position, kinds = 0, set()
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            header = file.read(16)
            if len(header) < 8:
                return False
            length, kind = struct.unpack(">I4s", header[:8])
            if length == 1 and len(header) == 16:
                (length,) = struct.unpack(">Q", header[8:])
            if length < 8:
                return False
            kinds.add(kind)
            position += length
    return position == size and {b"moov", b"mdat"} <= kinds
