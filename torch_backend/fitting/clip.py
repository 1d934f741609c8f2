"""A recorded clip of a user: scans of the frames, the sound, and landmarks if there are any.

CLIP/*.ply | *.obj | *.npy     or CLIP/frames/...: one scan a frame, in the order of their names
CLIP/NAME.wav                  one recording that begins with the first frame; any format that FFmpeg reads
CLIP/landmarks.npy             (T, 68, 3) or (T, 478, 3) in the scans' unit and axes; NaN where one is missing
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.contract.errors import BadInputError
from torch_backend.fitting.scan_files import list_scans, load_scan

FRAMES_FOLDER = "frames"
LANDMARKS_FILE = "landmarks.npy"
_SOUND_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".mp4", ".mkv", ".mov"})
_NUMBERS_OF_LANDMARKS = (68, 478)


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip on the frame grid of the codes."""

    name: str
    scans: tuple[Path, ...]
    """T files, one for each frame of the codes; of faster recordings the nearest in time."""
    landmarks: NDArray[np.float64] | None
    """(T, L, 3)."""
    sound: Path | None

    def read_points(self, frame: int) -> NDArray[np.float64]:
        """(n, 3) of a frame, in the scans' unit and axes.

        Raises:
            BadInputError: the scan is not usable.
        """
        return load_scan(self.scans[frame]).points


def open_clip(folder: Path, recorded_rate: float, frame_rate: float) -> Clip:
    """Look at a clip; scans are read later.

    Args:
        folder: as described above.
        recorded_rate: scans per second.
        frame_rate: frames per second of the codes.

    Raises:
        BadInputError: no scans, several recordings, or landmarks that do not fit.
    """
    inner = folder / FRAMES_FOLDER
    scans = list_scans(inner if inner.is_dir() else folder, LANDMARKS_FILE)
    rows = nearest_rows(len(scans), recorded_rate, frame_rate)
    sounds = sorted(each for each in folder.iterdir() if each.suffix.lower() in _SOUND_SUFFIXES and each.name[0] != ".")
    if len(sounds) > 1:
        names = ", ".join(each.name for each in sounds)
        raise BadInputError(f"{folder} holds several recordings ({names}); keep the one of the clip.")
    landmarks = _read_landmarks(folder / LANDMARKS_FILE, len(scans))
    return Clip(
        name=folder.resolve().name,
        scans=tuple(scans[row] for row in rows),
        landmarks=None if landmarks is None else landmarks[rows],
        sound=sounds[0] if sounds else None,
    )


def nearest_rows(num_recorded: int, recorded_rate: float, frame_rate: float) -> NDArray[np.int64]:
    """(T,) the recorded frame nearest in time to each frame of the codes, up to the last recorded one.

    Raises:
        ValueError: a rate is not over 0, or the recorded one is below the other.
    """
    if not 0 < frame_rate <= recorded_rate * 1.01:
        raise ValueError(f"expected scans at {frame_rate:g} frames a second or more, got {recorded_rate:g}")
    count = int(np.floor((num_recorded - 1) / recorded_rate * frame_rate + 1e-6)) + 1
    rows = np.floor(np.arange(count) * (recorded_rate / frame_rate) + 0.5).astype(np.int64)
    return rows.clip(max=num_recorded - 1)


def _read_landmarks(path: Path, num_frames: int) -> NDArray[np.float64] | None:
    if not path.exists():
        return None
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInputError(f"{path} is no array of landmarks: {error}") from error
    if array.ndim != 3 or array.shape[2] != 3 or array.shape[1] not in _NUMBERS_OF_LANDMARKS or array.dtype.kind != "f":
        raise BadInputError(f"{path}: expected landmarks (frames, 68 or 478, 3), got {array.shape} of {array.dtype}")
    if len(array) != num_frames:
        raise BadInputError(f"{path} has landmarks of {len(array)} frames, the clip has {num_frames} scans")
    return array.astype(np.float64)
