"""Decoding against closed forms: where a click lands, what a sine becomes, and what is refused."""

from __future__ import annotations

import hashlib
import math
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from blender_talkhead.contract.errors import BadInputError, OutputError
from torch_backend.audio.loading import SAMPLE_RATE, Section, decode_audio

CLICK_SECONDS = 0.6137


def click(sample_rate: int, seconds: float = 1.0, width_seconds: float = 0.5e-3) -> np.ndarray:
    """A smooth pulse centred at CLICK_SECONDS, wide enough for the lowest rate involved."""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    width_seconds = max(width_seconds, 1.2 / sample_rate)
    return (0.5 * np.exp(-(((times - CLICK_SECONDS) / width_seconds) ** 2))).astype(np.float32)


def sine(sample_rate: int, frequency_hz: float = 440.0, seconds: float = 1.0) -> np.ndarray:
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)


def peak_seconds(samples: np.ndarray) -> float:
    """Position of the largest sample, refined by a parabola."""
    index = int(np.argmax(samples))
    left, middle, right = (float(samples[index + shift]) for shift in (-1, 0, 1))
    return (index + 0.5 * (left - right) / (left - 2 * middle + right)) / SAMPLE_RATE


def encode(path: Path, samples: np.ndarray, sample_rate: int, codec: str, **options: str) -> Path:
    """Write (S,) samples through FFmpeg's encoders."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=sample_rate, layout="mono")
        stream.codec_context.open()
        size = stream.codec_context.frame_size
        for start in range(0, len(samples), size):
            frame = av.AudioFrame.from_ndarray(samples[np.newaxis, start : start + size], "fltp", "mono")
            frame.sample_rate = sample_rate
            resampler = av.AudioResampler(stream.codec_context.format.name, "mono", sample_rate)
            for converted in resampler.resample(frame):
                converted.pts = start
                container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("sample_rate", [4000, 8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000])
def test_no_time_offset_at_any_rate(tmp_path: Path, sample_rate: int) -> None:
    path = tmp_path / "click.wav"
    soundfile.write(path, click(sample_rate), sample_rate, subtype="FLOAT")
    audio = decode_audio(path, tmp_path)
    assert audio.source_sample_rate == sample_rate
    assert audio.duration_seconds == pytest.approx(1.0)
    assert abs(len(audio.samples) - SAMPLE_RATE) <= 1
    assert abs(peak_seconds(audio.samples) - CLICK_SECONDS) < 0.1 / SAMPLE_RATE


@pytest.mark.parametrize("sample_rate", [4000, 44100, 48000, 192000])
def test_sine_keeps_frequency_and_phase_across_blocks(tmp_path: Path, sample_rate: int) -> None:
    seconds = 3.0  # several blocks of the resampler at the higher rates
    path = tmp_path / "sine.wav"
    soundfile.write(path, sine(sample_rate, 440.0, seconds), sample_rate, subtype="FLOAT")
    samples = decode_audio(path, tmp_path).samples
    inner = slice(400, len(samples) - 400)  # the edges ring
    expected = 0.5 * np.sin(2 * np.pi * 440.0 * np.arange(len(samples)) / SAMPLE_RATE)
    assert np.abs(samples[inner] - expected[inner]).max() < 2e-3


def test_tones_above_the_band_do_not_fold_back(tmp_path: Path) -> None:
    path = tmp_path / "high.wav"
    soundfile.write(path, sine(48000, 11_000.0), 48000, subtype="FLOAT")
    samples = decode_audio(path, tmp_path).samples
    assert np.abs(samples[400:-400]).max() < 5e-3


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        (".wav", "PCM_U8", 8e-3),
        (".wav", "PCM_16", 1e-4),
        (".wav", "PCM_24", 1e-6),
        (".wav", "PCM_32", 1e-6),
        (".wav", "FLOAT", 1e-6),
        (".wav", "DOUBLE", 1e-6),
        (".flac", "PCM_16", 1e-4),
        (".flac", "PCM_24", 1e-6),
        (".aiff", "PCM_16", 1e-4),
    ],
)
def test_sample_formats_keep_the_values(tmp_path: Path, suffix: str, subtype: str, tolerance: float) -> None:
    expected = sine(SAMPLE_RATE)
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, expected, SAMPLE_RATE, subtype=subtype)
    audio = decode_audio(path, tmp_path)
    assert audio.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.abs(audio.samples - expected).max() < tolerance


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 8])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    values = np.outer(sine(SAMPLE_RATE), np.arange(1, channels + 1) / channels).astype(np.float32)
    path = tmp_path / "many.wav"
    soundfile.write(path, values, SAMPLE_RATE, subtype="FLOAT")
    audio = decode_audio(path, tmp_path)
    assert audio.channels == channels
    assert np.abs(audio.samples - values.mean(axis=1)).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "codec", "sample_rate"),
    [
        ("a.mp3", "libmp3lame", 44100),
        ("a.mp3", "libmp3lame", 22050),
        ("a.m4a", "aac", 44100),
        ("a.webm", "libopus", 48000),
        ("a.mkv", "aac", 48000),
    ],
)
def test_encoder_delay_is_left_out(tmp_path: Path, name: str, codec: str, sample_rate: int) -> None:
    path = encode(tmp_path / name, click(sample_rate, width_seconds=1e-3), sample_rate, codec)
    audio = decode_audio(path, tmp_path)
    assert abs(peak_seconds(audio.samples) - CLICK_SECONDS) < 1e-3
    assert audio.duration_seconds == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, click(48000, width_seconds=1e-3), 48000, format="OGG", subtype=subtype)
    audio = decode_audio(path, tmp_path)
    assert abs(peak_seconds(audio.samples) - CLICK_SECONDS) < 1e-3
    assert audio.duration_seconds == pytest.approx(1.0, abs=0.02)


def test_sound_of_a_video(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 32
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(25):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for start in range(0, 16000, 1024):
            frame = av.AudioFrame.from_ndarray(sine(16000)[np.newaxis, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    audio = decode_audio(path, tmp_path)
    spectrum = np.abs(np.fft.rfft(audio.samples[:16000]))
    assert np.argmax(spectrum) == 440


@pytest.mark.parametrize("name", ["ä ö ü.wav", "日本語 の 声.wav", "a:b 'c' %20.wav", "-leading.wav"])
def test_any_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    soundfile.write(path, sine(16000), 16000)
    assert decode_audio(path, tmp_path).duration_seconds == 1.0


def test_reading_a_recording_leaves_it_on_disk(tmp_path: Path) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc")

    def file_megabytes() -> float:
        return next(int(row.split()[1]) for row in status.read_text().splitlines() if row.startswith("RssFile")) / 1024

    path = tmp_path / "long.wav"
    soundfile.write(path, sine(16000, seconds=600.0), 16000)
    samples = decode_audio(path, tmp_path).samples
    before = file_megabytes()
    parts = [samples[start : start + 16000] for start in range(0, len(samples), 16000)]
    assert file_megabytes() - before < 15.0  # of 38
    assert np.array_equal(np.concatenate(parts)[1_000_000:1_000_100], np.asarray(samples)[1_000_000:1_000_100])


def test_digital_zero_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "zero.flac"
    soundfile.write(path, np.zeros(48000, np.float32), 48000)
    assert not decode_audio(path, tmp_path).samples.any()


def test_headers_of_streams_have_no_length(tmp_path: Path) -> None:
    """Programs that write to a pipe leave placeholders in the header."""
    path = tmp_path / "pipe.wav"
    soundfile.write(path, sine(16000), 16000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    assert content[36:40] == b"data"
    path.write_bytes(content)
    assert decode_audio(path, tmp_path).duration_seconds == 1.0


def test_progress_is_reported_and_can_stop(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(48000, seconds=2.0), 48000)
    fractions: list[float] = []
    decode_audio(path, tmp_path, fractions.append)
    assert fractions == sorted(fractions)
    assert 0.9 < fractions[-1] <= 1.0

    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_audio(path, tmp_path, stop)


def refused(path: Path, folder: Path, pattern: str) -> None:
    with pytest.raises(BadInputError, match=pattern):
        decode_audio(path, folder)


def test_files_that_are_no_sound(tmp_path: Path) -> None:
    refused(tmp_path / "none.wav", tmp_path, "does not exist")
    refused(tmp_path, tmp_path, "folder")
    empty = tmp_path / "empty.wav"
    empty.touch()
    refused(empty, tmp_path, "empty")
    for name in ("text.txt", "text.wav", "text.mp3", "text.ogg", "list.m3u8"):
        path = tmp_path / name
        path.write_text("#EXTM3U\nall of this is text\n" * 300)
        refused(path, tmp_path, "not a sound file")
    noise = tmp_path / "noise.mp3"
    noise.write_bytes(np.random.default_rng(0).bytes(100_000))
    refused(noise, tmp_path, "sound|damaged")


def test_pictures_and_silent_films_are_refused(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    with av.open(str(picture), "w", format="image2") as container:
        stream = container.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")))
    refused(picture, tmp_path, "not a sound file")
    renamed = picture.rename(tmp_path / "picture.wav")
    refused(renamed, tmp_path, "not a sound file")
    film = tmp_path / "film.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 16
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    refused(film, tmp_path, "no sound track")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "PCM_16"}),
        ("a.wav", {"format": "RF64", "subtype": "PCM_24"}),
        ("a.flac", {"subtype": "PCM_16"}),
        ("a.ogg", {"format": "OGG", "subtype": "VORBIS"}),
        ("a.ogg", {"format": "OGG", "subtype": "OPUS"}),
        ("a.aiff", {"subtype": "PCM_16"}),
        ("a.mp3", {"format": "MP3"}),
    ],
)
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_files(tmp_path: Path, name: str, options: dict[str, str], kept: float) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).normal(0, 0.1, 48000 * 4).astype(np.float32)
    soundfile.write(path, noise, 48000, **options)
    assert decode_audio(path, tmp_path).duration_seconds == pytest.approx(4.0, abs=0.06)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(path, tmp_path, "truncated|damaged")


@pytest.mark.parametrize(("name", "options"), [("a.m4a", {}), ("a.m4a", {"movflags": "faststart"}), ("a.mkv", {})])
def test_truncated_containers(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 44100 * 4).astype(np.float32)
    path = encode(tmp_path / name, noise, 44100, "aac", **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(path, tmp_path, "truncated|damaged")


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 48000 * 4), 48000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40_000] = bytes(40_000)
    path.write_bytes(content)
    refused(path, tmp_path, "truncated|damaged")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    samples = sine(16000)
    samples[9000] = value
    path = tmp_path / "bad.wav"
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    refused(path, tmp_path, "not a number, or infinite")


def test_shortest_recording(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, sine(48000)[:4799], 48000)
    refused(path, tmp_path, "at least 0.1 s")
    soundfile.write(path, sine(48000)[:4800], 48000)
    assert len(decode_audio(path, tmp_path).samples) == 1600
    path.write_bytes(b"RIFF" + struct.pack("<I", 36) + path.read_bytes()[8:40] + struct.pack("<I", 0))
    refused(path, tmp_path, "sound")


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(16000), 16000)
    with pytest.raises(OutputError, match="cannot write"):
        decode_audio(path, tmp_path / "missing")


def test_real_recordings_decode(check_data: Path, tmp_path: Path) -> None:
    for path in sorted((check_data / "speech").iterdir()):
        if path.suffix in {".wav", ".mp3", ".ogg"}:
            audio = decode_audio(path, tmp_path)
            assert audio.duration_seconds == pytest.approx(soundfile.info(path).duration, abs=0.06)


def read_channels(path: Path) -> tuple[np.ndarray, int]:
    """(S, C) samples of a file as its decoder gives them, and their rate."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    return np.concatenate([frame.to_ndarray() for frame in frames], axis=1).T.astype(np.float32), frames[0].sample_rate


@pytest.mark.parametrize(("start", "duration"), [(0.0, 0.25), (0.3, None), (0.1234567, 0.5), (1.9, 0.6), (2.3, 9.0)])
@pytest.mark.parametrize(
    ("name", "codec", "sample_rate"),
    [
        ("a.wav", "pcm_f32le", 44100),
        ("a.wav", "pcm_f32le", 16000),
        ("a.wav", "pcm_f32le", 7350),
        ("a.mp3", "libmp3lame", 44100),
        ("a.m4a", "aac", 48000),
    ],
)
def test_a_section_is_what_a_file_of_its_samples_gives(
    tmp_path: Path, name: str, codec: str, sample_rate: int, start: float, duration: float | None
) -> None:
    sound = make_noise(2.6, sample_rate)
    path = tmp_path / name
    if codec.startswith("pcm"):
        soundfile.write(path, sound, sample_rate, subtype="FLOAT")
    else:
        encode(path, sound, sample_rate, codec)
    channels, _ = read_channels(path)
    stop = None if duration is None else math.floor((start + duration) * sample_rate + 0.5)
    part = channels[math.floor(start * sample_rate + 0.5) : stop]
    soundfile.write(tmp_path / "part.wav", part, sample_rate, subtype="FLOAT")
    (tmp_path / "expected").mkdir()
    expected = decode_audio(tmp_path / "part.wav", tmp_path / "expected")
    audio = decode_audio(path, tmp_path, section=Section(start, duration))
    np.testing.assert_array_equal(np.asarray(audio.samples), np.asarray(expected.samples))
    assert audio.duration_seconds == expected.duration_seconds == pytest.approx(len(part) / sample_rate)
    assert audio.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def make_noise(seconds: float, sample_rate: int) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.1, size=round(seconds * sample_rate)).astype(np.float32)


def test_nothing_is_decoded_beyond_a_section(tmp_path: Path) -> None:
    path = tmp_path / "broken.wav"
    sound = make_noise(60.0, 16000)
    sound[-16000:] = np.nan
    soundfile.write(path, sound, 16000, subtype="FLOAT")
    assert decode_audio(path, tmp_path, section=Section(1.0, 2.0)).duration_seconds == 2.0
    with pytest.raises(BadInputError, match="not a number"):
        decode_audio(path, tmp_path, section=Section(1.0))


@pytest.mark.parametrize(
    ("section", "text"),
    [
        (Section(1.0), "begins at 1.000 s, after the end of the recording .1.000 s"),
        (Section(7.0, 2.0), "begins at 7.000 s"),
        (Section(0.5, 0.05), "holds only 0.050 s"),
        (Section(0.95), "holds only 0.050 s"),
        (Section(0.5, 0.0), "holds only 0.000 s"),
    ],
)
def test_sections_without_sound_are_refused(tmp_path: Path, section: Section, text: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, make_noise(1.0, 16000), 16000)
    with pytest.raises(BadInputError, match=text):
        decode_audio(path, tmp_path, section=section)
