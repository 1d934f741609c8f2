"""A scene of its own that shows a take as a picture or a film with sound; Cycles on the CPU needs no display."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from .. import compat
from ..bake.scene_frames import SceneFrames
from ..contract.motion_clip import MotionClip
from .mesh import link_head
from .stage import stage_camera
from .timeline import add_sound_strip

logger = logging.getLogger(__name__)

PREVIEW_SCENE = "TalkHead preview"
FILM_SCENE = "TalkHead film"
STILL_SIZE_PX = 720
FILM_SIZE_PX = 480
_STILL_SAMPLES = 32
_FILM_SAMPLES = 4
_NOISY_FACTOR = 4
"""More samples where nothing takes the noise away."""


def choose_still_frame(clip: MotionClip, scene_rate: float, start: int) -> int:
    """Return a scene frame in mid-speech: the one whose lips are nearest to three quarters of their widest opening."""
    frames = SceneFrames(clip, scene_rate)
    upper, lower = (clip.regions.get(f"lips_inner_{side}") for side in ("upper", "lower"))
    if upper is None or lower is None or not len(upper) or not len(lower):
        return start + len(frames) // 2
    gaps: NDArray[np.float32] = np.concatenate(
        [chunk[:, upper, 2].mean(axis=1) - chunk[:, lower, 2].mean(axis=1) for _, chunk in frames.chunks()]
    )
    return start + int(np.abs(gaps - 0.75 * gaps.max()).argmin())


def create_preview_scene(source: Any, head: Any, stage: Any, world: Any) -> Any:
    """Make a scene that holds a head and its stage, at the source scene's rate.

    Args:
        source: the scene with the take.
        head: the object.
        stage: the collection of `stage.build_stage`.
        world: the world to light it with.

    Returns:
        The new scene, with its renderer set; remove it with `remove_preview_scene`.
    """
    scene = bpy.data.scenes.new(PREVIEW_SCENE)
    scene.render.fps, scene.render.fps_base = source.render.fps, source.render.fps_base
    link_head(scene.collection, head)
    scene.collection.children.link(stage)
    scene.camera = stage_camera(stage)
    scene.world = world
    set_render_look(scene)
    return scene


def set_render_look(scene: Any) -> None:
    """Set renderer and colours: Cycles on the CPU, true colours, no more light bounces than a face needs."""
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.max_bounces = 2
    scene.cycles.diffuse_bounces = 1
    scene.cycles.glossy_bounces = 1
    scene.cycles.use_light_tree = False
    scene.cycles.caustics_reflective = False
    scene.cycles.caustics_refractive = False
    scene.render.use_persistent_data = True
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"


def set_still(scene: Any, source: Any, frame: int, path: Path) -> None:
    """Prepare a preview scene to render one frame of the source scene's take as a PNG."""
    _set_picture(scene, STILL_SIZE_PX, _STILL_SAMPLES, "HIGH")
    compat.set_still_output(scene.render.image_settings)
    scene.render.filepath = str(path)
    scene.render.use_file_extension = False
    _show_frame(scene, source, frame)


def set_film_frame(scene: Any, source: Any, frame: int, path: Path) -> None:
    """Prepare a preview scene to render one frame of a film as a PNG; each frame is a step that can be cancelled."""
    _set_picture(scene, FILM_SIZE_PX, _FILM_SAMPLES, "FAST")
    compat.set_still_output(scene.render.image_settings)
    scene.render.image_settings.compression = 10
    scene.render.filepath = str(path)
    scene.render.use_file_extension = False
    _show_frame(scene, source, frame)


def create_film_scene(source: Any, pictures: list[Path], audio: Path, path: Path) -> Any:
    """Make a scene whose sequencer turns rendered pictures and the recording into an MP4 (H.264, AAC).

    Args:
        source: the scene whose frame rate the pictures were rendered at.
        pictures: one file a frame, in order, in one folder.
        audio: the recording; it starts with the first picture.
        path: the film.

    Returns:
        The new scene; remove it with `remove_preview_scene`.
    """
    scene = bpy.data.scenes.new(FILM_SCENE)
    scene.render.fps, scene.render.fps_base = source.render.fps, source.render.fps_base
    scene.frame_start, scene.frame_end = 1, len(pictures)
    scene.view_settings.view_transform = "Standard"
    scene.render.use_sequencer = True
    scene.render.resolution_x = scene.render.resolution_y = FILM_SIZE_PX
    scene.render.resolution_percentage = 100
    strip = compat.sequencer_strips(scene).new_image("Pictures", str(pictures[0]), 1, 1)
    for picture in pictures[1:]:
        strip.elements.append(picture.name)
    compat.set_video_output(scene.render.image_settings)
    encoder = scene.render.ffmpeg
    encoder.format = "MPEG4"
    encoder.codec = "H264"
    encoder.constant_rate_factor = "HIGH"
    encoder.ffmpeg_preset = "GOOD"
    encoder.gopsize = 12
    has_sound = add_sound_strip(scene, audio, 1, "") is not None
    encoder.audio_codec = "AAC" if has_sound else "NONE"
    encoder.audio_bitrate = 192
    scene.render.filepath = str(path)
    scene.render.use_file_extension = False
    return scene


def remove_preview_scene(scene: Any) -> None:
    """Remove a preview scene and the sound that only it used; head and stage stay in the file."""
    bpy.data.scenes.remove(scene)
    for sound in [sound for sound in bpy.data.sounds if sound.users == 0]:
        bpy.data.sounds.remove(sound)


def _show_frame(scene: Any, source: Any, frame: int) -> None:
    """Go to a frame in both scenes: a render reads shape key values that only the session's active scene evaluates."""
    source.frame_set(frame)
    scene.frame_set(frame)


def _set_picture(scene: Any, size_px: int, samples: int, denoising: str) -> None:
    scene.render.resolution_x = scene.render.resolution_y = size_px
    scene.render.resolution_percentage = 100
    scene.cycles.use_adaptive_sampling = False
    is_denoised = compat.set_denoising(scene.cycles, denoising)
    scene.cycles.samples = samples if is_denoised else samples * _NOISY_FACTOR
