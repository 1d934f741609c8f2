"""What the panel sets (`Scene.talkhead`, saved in the file) and what scripts can read (`WindowManager.talkhead`)."""

# Annotations are evaluated: Blender reads the properties from them, so they stay no text.

from collections.abc import Iterator
from typing import Any

from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty
from bpy.types import Context, Object, PropertyGroup

from . import compat
from .contract.jobs import (
    DEFAULT_DIVERSITY,
    DEFAULT_GRID,
    DEFAULT_GUIDANCE,
    DEFAULT_SAMPLER_STEPS,
    MAX_DIVERSITY,
    MAX_GRID,
    MAX_GUIDANCE,
    MAX_SAMPLER_STEPS,
    MAX_SEED,
    MAX_TAKE,
    MAX_TAKES,
    MAX_VERTICES,
    MIN_GRID,
    MIN_VERTICES,
)
from .facial.identities import MAX_AMOUNT, find_preset, random_identity
from .facial.identity_parameters import IDENTITY_PARAMETERS
from .facial.identity_presets import IDENTITY_PRESETS
from .scene.character_store import (
    wanted_identity,
    wanted_parameters,
    write_wanted_identity,
    write_wanted_parameters,
)
from .session import session

STANDARD_VERTICES = 5_000
RESOLUTIONS = (
    ("Preview", 1_500, "Quick to make and to play, for timing"),
    ("Standard", STANDARD_VERTICES, "Smooth enough for most shots"),
    ("Fine", 15_000, "For close-ups"),
    ("Ultra", 50_000, "As dense as it goes; takes long, and plays best with the cache bake"),
)
"""Name, vertices of the skin and description of each preset."""
MAX_UI_SEED = min(MAX_SEED, 2**31 - 1)
MIN_START, MAX_START = -100_000, 1_000_000

SOURCES = (
    ("FILE", "Audio File", "A recording on disk, in any format that FFmpeg reads, or a video with sound",
     "FILE_SOUND", 0),
    ("STRIP", "Sound Strip", "A sound strip of the sequencer; only its audible part is animated, in sync",
     "SEQUENCE", 1),
)  # fmt: skip
TARGETS = (
    ("NEW", "New Head", "Make a new built-in head; nothing else in the scene is touched", "ADD", 0),
    ("OBJECT", "Object", "Animate a head that is in the scene: one made by TalkHead, or any mesh of its topology",
     "OUTLINER_OB_MESH", 1),
)  # fmt: skip
METHODS = (
    ("mmtalker", "MMTalker", "Moves every vertex of the face, at any resolution, 30 frames a second", "USER", 0),
    ("facetalk", "FaceTalk", "Draws a performance by diffusion, another one for each take, 24 frames a second",
     "OUTLINER_OB_LIGHTPROBE", 1),
)  # fmt: skip
SURFACE_ITEMS = (
    ("tracked", "One Mesh", "One mesh for all frames, with UV map, materials and controls; drives shape keys",
     "MESH_DATA", 0),
    ("sequence", "Mesh Sequence", "A mesh of its own for each frame, from the head's signed distance: a new object "
     "that Geometry Nodes show, also without TalkHead", "RENDER_ANIMATION", 1),
)  # fmt: skip
GRIDS = (
    ("Draft", 64, "Quick: about 10,000 vertices a frame"),
    ("Standard", 128, "About 40,000 vertices a frame"),
    ("Fine", 256, "About 160,000 vertices a frame; slow and large"),
)
"""Name, cells and description of each preset."""
BAKES = (
    ("basis", "Shape Keys", "About twenty shape keys with curves: small, editable, plays fast (recommended)",
     "SHAPEKEY_DATA", 0),
    ("per-frame", "One Key a Frame", "One absolute shape key a frame, played by one curve: exact, all in the file",
     "KEYFRAME_HLT", 1),
    ("cache", "Cache File", "A PC2 file beside the .blend: exact, for long recordings and dense meshes",
     "FILE_CACHE", 2),
)  # fmt: skip
DETAILS = (
    ("ARTIST", "Artist Mesh", "The head's own mesh: five of six faces are quads, in loops around eyes and mouth",
     "MESH_GRID", 0),
    ("SAMPLED", "Resampled", "Triangles, as many as wanted, denser where the face moves", "MESH_ICOSPHERE", 1),
)  # fmt: skip
IDENTITIES = (
    *((name, preset.label, preset.description, index)
      for index, (name, preset) in enumerate(IDENTITY_PRESETS.items())),
    ("random", "Random", "A head of its own for each number below; the same number gives the same head", 100),
    ("custom", "Custom", "As the sliders of the Character panel are set", 101),
)  # fmt: skip


EXPRESSION_ITEMS = (
    ("neutral", "Neutral", "As the speech was animated", 0),
    ("happy", "Happy", "A smile that reaches the eyes", 1),
    ("sad", "Sad", "Inner brows up, corners of the mouth down", 2),
    ("angry", "Angry", "Brows down, narrow eyes, pressed lips", 3),
    ("surprised", "Surprised", "Brows up, wide eyes, mouth ajar between words", 4),
)
"""In the order of facial.expressions.EXPRESSIONS, so that keyframes mean the same."""
_STRENGTH: dict[str, Any] = {"default": 1.0, "min": 0.0, "max": 2.0, "subtype": "FACTOR"}


def _search_sound_strips(settings: Any, context: Context, edit_text: str) -> Iterator[str]:
    del context
    wanted = edit_text.lower()
    for strip in compat.existing_strips(settings.id_data):
        if strip.type == "SOUND" and wanted in strip.name.lower():
            yield strip.name


def _is_mesh(settings: Any, item: Object) -> bool:
    del settings
    return bool(item.type == "MESH")


def _identity_choice(settings: Any) -> int:
    scene = settings.id_data
    name = "random" if wanted_identity(scene).isdigit() else find_preset(wanted_parameters(scene)) or "custom"
    return next(int(item[3]) for item in IDENTITIES if item[0] == name)


def _choose_identity(settings: Any, number: int) -> None:
    name = next(str(item[0]) for item in IDENTITIES if item[3] == number)
    if name == "random":
        write_wanted_identity(settings.id_data, str(settings.identity_seed))
    elif name != "custom":
        write_wanted_identity(settings.id_data, name)


def _use_identity_seed(settings: Any, context: Context) -> None:
    """Give a random face its new number; any other face keeps what it is."""
    del context
    if wanted_identity(settings.id_data).isdigit():
        write_wanted_identity(settings.id_data, str(settings.identity_seed))


def _choose_resampled(settings: Any, context: Context) -> None:
    """Who asks for a number of vertices wants that many."""
    del context
    settings.detail = "SAMPLED"


class TalkHeadSettings(PropertyGroup):
    """What `Animate from Audio` does in this scene."""

    source: EnumProperty(name="Audio From", description="Where the speech comes from", items=SOURCES)
    audio: StringProperty(
        name="Recording",
        description="Recorded speech: WAV, FLAC, MP3, OGG, M4A or a video with sound",
        subtype="FILE_PATH",
    )
    strip: StringProperty(
        name="Sound Strip",
        description="A sound strip of this scene's sequencer; the head starts to speak where it begins",
        search=_search_sound_strips,
        search_options={"SORT"},
    )
    target_kind: EnumProperty(name="Animate", description="What speaks the recording", items=TARGETS)
    target: PointerProperty(
        name="Object",
        description="Mesh that will speak; its present animation is kept in the file and can be brought back",
        type=Object,
        poll=_is_mesh,
    )
    method: EnumProperty(name="Method", description="How speech becomes motion", items=METHODS)
    surface: EnumProperty(name="Surface", description="What FaceTalk's head becomes", items=SURFACE_ITEMS)
    grid: IntProperty(
        name="Resolution",
        description="Cells along the longest side of the head from which each frame's mesh is made",
        default=DEFAULT_GRID,
        min=MIN_GRID,
        max=MAX_GRID,
        soft_max=256,
    )
    take: IntProperty(
        name="Take",
        description="Number of the performance: each one is another reading of the same line, and comes back by its "
        "number",
        default=1,
        min=1,
        max=MAX_TAKE,
    )
    takes: IntProperty(
        name="Number of Takes",
        description="How many performances to make at once, from the take above on; their heads stand side by side",
        default=1,
        min=1,
        max=MAX_TAKES,
    )
    guidance: FloatProperty(
        name="Guidance",
        description="How closely the performance follows the speech: 1 as learned, above exaggerates what the speech "
        "asks for, below loosens it",
        default=DEFAULT_GUIDANCE,
        min=0.0,
        max=MAX_GUIDANCE,
        soft_max=3.0,
    )
    diversity: FloatProperty(
        name="Diversity",
        description="How far takes lie apart: 1 as learned, 0 makes all of them alike",
        default=DEFAULT_DIVERSITY,
        min=0.0,
        max=MAX_DIVERSITY,
        subtype="FACTOR",
    )
    sampler_steps: IntProperty(
        name="Sampler Steps",
        description="How often the network is asked for each frame: more takes longer and changes little",
        default=DEFAULT_SAMPLER_STEPS,
        min=1,
        max=MAX_SAMPLER_STEPS,
        soft_max=100,
    )
    scan: StringProperty(
        name="Fitted Scan",
        description="A scan that was fitted (.safetensors), in place of a built-in face; leave empty for the latter",
        subtype="FILE_PATH",
    )
    detail: EnumProperty(name="Mesh", description="Which mesh the face has", items=DETAILS)
    vertices: IntProperty(
        name="Vertices",
        description="Vertices of the face's skin; eyes, teeth and tongue come on top",
        default=STANDARD_VERTICES,
        min=MIN_VERTICES,
        max=MAX_VERTICES,
        soft_max=20_000,
        step=50,
        update=_choose_resampled,
    )
    identity: EnumProperty(
        name="Face",
        description="Which face the new head has; the Character panel shapes it further",
        items=IDENTITIES,
        get=_identity_choice,
        set=_choose_identity,
    )
    identity_seed: IntProperty(
        name="Face Number",
        description="Number of the random face",
        default=1,
        min=0,
        max=MAX_UI_SEED,
        update=_use_identity_seed,
    )
    auto_update: BoolProperty(
        name="Live Update",
        description="Give the head in the viewport its new shape as soon as a slider moves",
        default=True,
    )
    start: IntProperty(
        name="Start Frame",
        description="Scene frame at which the recording begins",
        default=1,
        min=MIN_START,
        max=MAX_START,
    )
    bake: EnumProperty(name="Store As", description="How the motion is stored", items=BAKES)
    seed: IntProperty(
        name="Seed",
        description="Number behind everything random: the same seed gives the same motion. It is noted on the action",
        default=0,
        min=0,
        max=MAX_UI_SEED,
    )
    extend_range: BoolProperty(
        name="Extend Frame Range",
        description="Lengthen the scene's frame range where the speech goes on beyond it; it is never shortened",
        default=False,
    )


def _use_random(character: Any, context: Context) -> None:
    del context
    write_wanted_parameters(character.id_data, random_identity(character.seed, character.amount))
    session.character_changed(character.id_data)


class TalkHeadCharacter(PropertyGroup):
    """The character that a head is to be (`Object.talkhead_character`), or a head to come (`Scene.talkhead_character`).

    Its sliders, one for each of IDENTITY_PARAMETERS, read and write one custom property, which undo and files keep.
    """

    seed: IntProperty(
        name="Seed",
        description="Number of the random character; the same number and amount give the same face",
        default=1,
        min=0,
        max=MAX_UI_SEED,
        update=_use_random,
    )
    amount: FloatProperty(
        name="Amount",
        description="How far the random character is from the average: 1 is natural",
        default=1.0,
        min=0.0,
        max=MAX_AMOUNT,
        subtype="FACTOR",
        update=_use_random,
    )


def _slider(name: str) -> Any:
    parameter = IDENTITY_PARAMETERS[name]

    def read(character: Any) -> float:
        return wanted_parameters(character.id_data).get(name, 0.0)

    def write(character: Any, value: float) -> None:
        parameters = wanted_parameters(character.id_data)
        write_wanted_parameters(character.id_data, {**parameters, name: min(max(value, -1.0), 1.0)})
        session.character_changed(character.id_data)

    return FloatProperty(
        name=parameter.label,
        description=parameter.description,
        min=-1.0,
        max=1.0,
        subtype="FACTOR",
        options=set(),
        get=read,
        set=write,
    )


TalkHeadCharacter.__annotations__.update({name: _slider(name) for name in IDENTITY_PARAMETERS})


class TalkHeadPerformance(PropertyGroup):
    """How a head performs its take (`Object.talkhead_performance`); each control may have keyframes."""

    expression: EnumProperty(
        name="Expression",
        description="Mood under the speech; where it changes, one becomes the other within half a second",
        items=EXPRESSION_ITEMS,
    )
    expression_strength: FloatProperty(
        name="Strength", description="How strong the expression is", default=1.0, min=0.0, max=1.0, subtype="FACTOR"
    )
    mouth_strength: FloatProperty(
        name="Mouth",
        description="How far speech moves the mouth and the jaw; lips that meet in speech still meet",
        **_STRENGTH,
    )
    jaw_strength: FloatProperty(name="Jaw", description="How far the jaw opens, beside the mouth", **_STRENGTH)
    upper_face_strength: FloatProperty(
        name="Upper Face", description="How far brows, cheeks and nose move", **_STRENGTH
    )
    blink_rate: FloatProperty(
        name="Blinks",
        description="How many of the blinks there are: 0 none, 1 as animated, 2 twice as many",
        **_STRENGTH,
    )
    smoothing: FloatProperty(
        name="Smoothing",
        description="Slows the face down; blinks and lips that meet stay as they are",
        default=0.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    head_motion: FloatProperty(name="Head", description="How far the head turns", **_STRENGTH)
    gaze: FloatProperty(name="Gaze", description="How far the eyes turn, and the lids with them", **_STRENGTH)


class TalkHeadStatus(PropertyGroup):
    """The state of this run of Blender, for scripts and tests: computed when read, never saved."""

    running: BoolProperty(
        name="Running", description="Whether an animation is being made", get=lambda self: session.is_animating()
    )
    installing: BoolProperty(
        name="Installing", description="Whether a backend is being installed", get=lambda self: session.is_installing()
    )
    phase: StringProperty(
        name="Phase",
        description="What is being done now, such as animating or baking; at the end done, failed or cancelled",
        get=lambda self: "" if session.job is None else session.job.phase,
    )
    fraction: FloatProperty(
        name="Fraction",
        description="Done part of the animation",
        min=0.0,
        max=1.0,
        get=lambda self: 0.0 if session.job is None else session.job.fraction,
    )
    seconds_left: FloatProperty(
        name="Seconds Left",
        description="Estimated seconds to the end; -1 while unknown",
        min=-1.0,
        get=lambda self: _seconds_left(),
    )
    message: StringProperty(
        name="Message",
        description="The newest message to the user",
        get=lambda self: session.notes[-1].text if session.notes else "",
    )
    backend_found: BoolProperty(
        name="Backend Found",
        description="Whether a Python with the backend's packages was found",
        get=lambda self: session.report is not None and session.report.is_usable,
    )
    tick_milliseconds: FloatProperty(
        name="Tick Cost",
        description="Milliseconds that 95 % of the last animation's timer ticks stayed under",
        get=lambda self: 0.0 if session.job is None else session.job.tick_milliseconds(95.0),
    )


def _seconds_left() -> float:
    left = None if session.job is None else session.job.seconds_left
    return -1.0 if left is None else float(left)


CLASSES: tuple[type, ...] = (TalkHeadSettings, TalkHeadCharacter, TalkHeadPerformance, TalkHeadStatus)
