"""Recordings of any format to 16 kHz mono on disk, in blocks: memory does not grow with the recording.

Decoding and resampling are FFmpeg's (through PyAV). Time 0 is the first sample that a player would play: encoder delay
of MP3, AAC, Vorbis and Opus is left out, and the resampler adds none (tests/backend/test_audio_loading.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import mmap
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np

from blender_talkhead.contract.errors import BadInputError, OutputError
from torch_backend.audio.truncation import find_missing_end, has_exact_mp3_length

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
SHORTEST_SECONDS = 0.1
LOWEST_SOURCE_RATE = 1_000
SAMPLES_FILE = "samples.f32"

_BLOCK_SAMPLES = 65_536
_KEPT_BYTES = 4 * 1024 * 1024
_LARGEST_SAMPLE = 1e10  # squares of larger values overflow in single precision
_DURATION_SLACK_SECONDS = 0.25
_REMEDY = "Export the recording again, for example as WAV, and try that file."

# Only containers of sound and video: no playlists (they open other files), no pictures, no text.
_CONTAINERS = "wav,w64,aiff,caf,au,flac,ogg,mp3,aac,mov,matroska,avi,asf,mpegts,mpeg,flv,amr,ac3,eac3,dts,wv,ape,tta"
# Containers whose header states the length of the sound exactly.
_EXACT_CONTAINERS = frozenset({"w64", "aiff", "caf", "au", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
# Files of these are often cut anywhere, and end with a part of a frame or a tag that is no sound.
_LOOSE_CONTAINERS = frozenset({"mp3", "aac", "ac3", "eac3", "dts", "amr", "mpegts", "mpeg", "flv"})


class StreamedSamples(np.memmap):
    """A memory-mapped recording whose parts are copies: what was read does not stay in memory.

    The system would keep all pages that were ever touched while there is room, 230 MB an hour.
    """

    _touched_bytes = 0

    def __getitem__(self, index: Any) -> Any:
        part = np.array(super().__getitem__(index))
        self._touched_bytes += part.nbytes
        if self._touched_bytes > _KEPT_BYTES and isinstance(self.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.base.madvise(mmap.MADV_DONTNEED)
            self._touched_bytes = 0
        return part


@dataclass(frozen=True)
class DecodedAudio:
    """A recording, ready for the speech encoder."""

    samples: np.memmap
    """(S,) float32 at 16 kHz, mean of the channels, full scale -1..1 (float files may exceed it); read-only."""
    duration_seconds: float
    sha256: str
    """Of the file's bytes, hexadecimal."""
    source_sample_rate: int
    """Hz, of the file."""
    channels: int
    """Of the file."""


@dataclass(frozen=True)
class Section:
    """A part of a recording."""

    start_seconds: float = 0.0
    duration_seconds: float | None = None
    """It ends with the recording at the latest; None is all that follows."""


WHOLE = Section()


def decode_audio(
    path: Path, folder: Path, report: Callable[[float], None] | None = None, section: Section = WHOLE
) -> DecodedAudio:
    """Decode the first sound track of a file, or a section of it, to 16 kHz mono.

    A section is cut before the resampler, at whole samples of the file: it gives what a file of these samples would.

    Args:
        path: a sound or video file of any format, 1 to 192 kHz (and more), any number of channels.
        folder: an existing folder for the decoded samples, which the result reads from.
        report: called with the fraction done; may raise to stop.
        section: what to decode; the file is not read beyond its end.

    Returns:
        The recording.

    Raises:
        BadInputError: missing, a folder, empty, no sound, truncated, damaged, not finite, or shorter than 0.1 s, or
            the section begins after its end; the message names the remedy.
        OutputError: the samples cannot be written to `folder`.
    """
    path = Path(path)
    size, sha256 = _inspect_file(path)
    track = _Track()
    target = Path(folder) / SAMPLES_FILE
    try:
        with target.open("wb") as file, contextlib.closing(_decode(path, track, size, report)) as blocks:
            for block in _resample(_cut(blocks, track, section), track):
                _write(file, block)
    except OSError as error:
        raise OutputError(f"cannot write the decoded sound to {folder}: {error.strerror or error}") from error
    if float(track.kept_seconds) < SHORTEST_SECONDS:
        raise BadInputError(_describe_shortness(path, track, section))
    samples = StreamedSamples(target, np.float32, "r")
    return DecodedAudio(samples, float(track.kept_seconds), sha256, track.sample_rate, track.channels)


@dataclass
class _Track:
    """What is known of the sound track while it is being decoded."""

    sample_rate: int = 0
    channels: int = 0
    seconds: Fraction = field(default_factory=Fraction)
    """Decoded so far; exact, so that many small blocks add no error."""
    kept_seconds: Fraction = field(default_factory=Fraction)
    """Of these, within the section."""
    packet_end_seconds: float = 0.0
    """Latest end of a packet of any track, relative to the file's start."""


def _cut(blocks: Iterator[tuple[int, np.ndarray]], track: _Track, section: Section) -> Iterator[tuple[int, np.ndarray]]:
    """Yield what lies within the section; nothing is decoded beyond it."""
    start = Fraction(section.start_seconds)
    end = None if section.duration_seconds is None else start + Fraction(section.duration_seconds)
    seconds = Fraction()
    for sample_rate, block in blocks:
        first = max(0, _nearest_sample((start - seconds) * sample_rate))
        stop = len(block) if end is None else _nearest_sample((end - seconds) * sample_rate)
        seconds += Fraction(len(block), sample_rate)
        part = block[first : max(0, stop)]
        if len(part):
            track.kept_seconds += Fraction(len(part), sample_rate)
            yield sample_rate, part
        if end is not None and seconds >= end:
            return


def _nearest_sample(position: Fraction) -> int:
    return math.floor(position + Fraction(1, 2))


def _describe_shortness(path: Path, track: _Track, section: Section) -> str:
    kept = float(track.kept_seconds)
    if section == WHOLE:
        return (
            f"{path} holds only {kept:.3f} s of sound; at least {SHORTEST_SECONDS} s are needed. "
            "Choose a longer recording."
        )
    if kept == 0 and track.seconds <= section.start_seconds:
        return (
            f"the section of {path} begins at {section.start_seconds:.3f} s, after the end of the recording "
            f"({float(track.seconds):.3f} s). Choose an earlier start."
        )
    return (
        f"the section of {path} from {section.start_seconds:.3f} s on holds only {kept:.3f} s of sound; at least "
        f"{SHORTEST_SECONDS} s are needed. Choose a longer section."
    )


def _inspect_file(path: Path) -> tuple[int, str]:
    """Size and hash of a file that may hold a recording."""
    if path.is_dir():
        raise BadInputError(f"{path} is a folder; choose a sound file in it.")
    if not path.exists():
        raise BadInputError(f"{path} does not exist. Check the name of the recording.")
    if not path.is_file():
        raise BadInputError(f"{path} is not a regular file. Choose a sound file.")
    try:
        size = path.stat().st_size
        if size == 0:
            raise BadInputError(f"{path} is empty. {_REMEDY}")
        missing = find_missing_end(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error
    if missing:
        raise BadInputError(f"{path} is truncated: {missing}. {_REMEDY}")
    return size, sha256


def _open_container(path: Path) -> Any:
    try:
        # "file:" and the lists keep a name or a playlist from reaching other files or the network.
        options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
        return av.open(f"file:{path}", options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        logger.debug("FFmpeg: %s", error)
        raise BadInputError(
            f"{path} is not a sound file, or a damaged one. Use WAV, FLAC, MP3, OGG, M4A or a video with sound."
        ) from error


def _decode(
    path: Path, track: _Track, size: int, report: Callable[[float], None] | None
) -> Generator[tuple[int, np.ndarray], None, None]:
    """Yield (sample_rate, (n,) float32 mono block) to the end of the file, then check that nothing was missing."""
    with _open_container(path) as container:
        if not container.streams.audio:
            raise BadInputError(f"{path} has no sound track. Choose a file with sound.")
        stream = container.streams.audio[0]
        failure: str | None = None
        for packet in _packets(container, path):
            _note_end(packet, container, track)
            if packet.stream.index != stream.index:
                continue
            if report is not None and packet.pos is not None:
                report(min(1.0, packet.pos / size))
            try:
                frames = packet.decode()
            except (av.FFmpegError, ValueError) as error:
                failure = f"damaged after {float(track.seconds):.2f} s ({error})"
                continue
            for frame in frames:
                if failure is not None and track.seconds > 0:
                    raise BadInputError(f"{path} is {failure}. {_REMEDY}")
                failure = None
                track.channels = track.channels or frame.layout.nb_channels
                block = _mix_to_mono(frame)
                _require_sound(block, path, track)
                track.seconds += Fraction(len(block), frame.sample_rate)
                yield frame.sample_rate, block
        if track.seconds == 0:
            raise BadInputError(f"no sound could be decoded from {path}. {_REMEDY}")
        if failure is not None and container.format.name not in _LOOSE_CONTAINERS:
            raise BadInputError(f"{path} is {failure}. {_REMEDY}")
        _require_complete(container, stream, path, track)


def _packets(container: Any, path: Path) -> Iterator[Any]:
    try:
        yield from container.demux()
    except (av.FFmpegError, OSError) as error:
        raise BadInputError(f"{path} is damaged ({error}). {_REMEDY}") from error


def _note_end(packet: Any, container: Any, track: _Track) -> None:
    if packet.pts is not None and packet.time_base is not None:
        start = (container.start_time or 0) / av.time_base
        end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - start
        track.packet_end_seconds = max(track.packet_end_seconds, end)


def _mix_to_mono(frame: Any) -> np.ndarray:
    """Mean of the channels of a decoded frame, (n,) float32.

    Not FFmpeg's own downmix: that weighs surround channels by a table and drops the bass channel.
    """
    channels = frame.layout.nb_channels
    values = frame.to_ndarray()
    values = values if frame.format.is_planar else values.reshape(-1, channels).T
    if values.dtype == np.uint8:
        values = (values.astype(np.float32) - 128.0) / 128.0
    elif values.dtype.kind == "i":
        values = values * np.float32(2.0 ** (1 - 8 * values.dtype.itemsize))
    return values.mean(axis=0, dtype=np.float64).astype(np.float32)


def _require_sound(block: np.ndarray, path: Path, track: _Track) -> None:
    is_bad = ~(np.abs(block) < _LARGEST_SAMPLE)  # also true for NaN
    if is_bad.any():
        raise BadInputError(
            f"{path} holds values that are no sound (not a number, or infinite) after {float(track.seconds):.2f} s. "
            f"{_REMEDY}"
        )


def _require_complete(container: Any, stream: Any, path: Path, track: _Track) -> None:
    """Compare what was decoded with what the header states, where it states it exactly."""
    name = container.format.name
    if name not in _EXACT_CONTAINERS and not (name == "mp3" and has_exact_mp3_length(path)):
        return
    if stream.duration is not None:
        declared, found = float(stream.duration * stream.time_base), float(track.seconds)
    elif container.duration is not None:
        declared, found = container.duration / av.time_base, max(track.packet_end_seconds, float(track.seconds))
    else:
        return
    if declared - found > _DURATION_SLACK_SECONDS:
        raise BadInputError(
            f"{path} is truncated: its header announces {declared:.2f} s, {found:.2f} s are there. {_REMEDY}"
        )


def _resample(blocks: Iterator[tuple[int, np.ndarray]], track: _Track) -> Iterator[np.ndarray]:
    """Yield (n,) float32 blocks at 16 kHz; the resampler's state carries over between blocks."""
    resampler: Any = None
    for sample_rate, block in _gather(blocks):
        if resampler is None or sample_rate != track.sample_rate:
            if sample_rate < LOWEST_SOURCE_RATE:
                raise BadInputError(f"the sample rate of {sample_rate} Hz is too low for speech. {_REMEDY}")
            yield from _flush(resampler)
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
            track.sample_rate = sample_rate
        frame = av.AudioFrame.from_ndarray(block[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        yield from (resampled.to_ndarray()[0] for resampled in resampler.resample(frame))
    yield from _flush(resampler)


def _flush(resampler: Any) -> Iterator[np.ndarray]:
    """The end of the sound, which the resampler holds back for its filter."""
    if resampler is not None:
        yield from (resampled.to_ndarray()[0] for resampled in resampler.resample(None))


def _gather(blocks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Join small blocks of one sample rate into larger ones: each call of the resampler has its price."""
    waiting: list[np.ndarray] = []
    rate, length = 0, 0
    for sample_rate, block in blocks:
        if waiting and (sample_rate != rate or length >= _BLOCK_SAMPLES):
            yield rate, np.concatenate(waiting)
            waiting, length = [], 0
        rate = sample_rate
        waiting.append(block)
        length += len(block)
    if waiting:
        yield rate, np.concatenate(waiting)


def _write(file: BinaryIO, block: np.ndarray) -> None:
    file.write(np.ascontiguousarray(block, np.float32).data)
