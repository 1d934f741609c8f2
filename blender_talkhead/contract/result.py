"""result.json: what every result folder says about itself."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from .errors import BackendError

FORMAT_VERSION = 1
"""Version of the result folders; a folder of any other version is refused."""

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class ResultInfo:
    """Where a result comes from: everything needed to make the same arrays again.

    Same audio, weights, seed, options, machine and thread count give the same array bytes.
    """

    kind: str
    """Kind of the folder, such as "motion_clip"."""
    method: str
    """Method that made it, such as "mmtalker"."""
    frame_rate: float
    """Frames per second of the result; frame i shows the time i / frame_rate."""
    num_frames: int
    audio_path: str
    audio_sha256: str
    weights_sha256: str
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    """The method's own options, as given or resolved; plain JSON values only."""
    units: str = "m"
    talkhead_version: str = ""

    def __post_init__(self) -> None:
        if not self.frame_rate > 0:
            raise ValueError(f"frame_rate must be above 0 frames per second, got {self.frame_rate}")
        if self.num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {self.num_frames}")

    def to_json(self) -> str:
        """Return the text of result.json, with sorted keys (equal infos give equal bytes)."""
        content = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ResultInfo:
        """Read the text of result.json.

        Raises:
            BackendError: not JSON, another format version, or a missing or mistyped field.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise BackendError(f"{RESULT_FILE} is not valid JSON ({error}); run the method again") from error
        if not isinstance(content, dict):
            raise BackendError(f"{RESULT_FILE} must hold a JSON object, got {type(content).__name__}")
        version = content.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise BackendError(
                f"the result has format version {version!r}, this version of TalkHead reads {FORMAT_VERSION}; "
                "update the add-on and its backend together"
            )
        return cls._from_fields(content)

    @classmethod
    def _from_fields(cls, content: dict[str, Any]) -> ResultInfo:
        types: dict[str, tuple[type, ...]] = {
            "kind": (str,),
            "method": (str,),
            "frame_rate": (int, float),
            "num_frames": (int,),
            "audio_path": (str,),
            "audio_sha256": (str,),
            "weights_sha256": (str,),
            "seed": (int,),
            "options": (dict,),
            "units": (str,),
            "talkhead_version": (str,),
        }
        if set(content) != set(types):
            raise BackendError(f"{RESULT_FILE} must have the fields {sorted(types)}, got {sorted(content)}")
        for name, accepted in types.items():
            if not isinstance(content[name], accepted) or isinstance(content[name], bool):
                raise BackendError(
                    f"{RESULT_FILE}: {name} must be of type {accepted[-1].__name__}, got {content[name]!r}"
                )
        try:
            return cls(**content)
        except ValueError as error:
            raise BackendError(f"{RESULT_FILE}: {error}") from error
