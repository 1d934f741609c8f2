"""A stand-in for FaceTalk's predictor: a ball that speaks. For tests of everything around the networks, in any process.

Its mesh has another number of vertices in each frame; its codes come from seed, take and frame alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blender_talkhead.contract.mesh_sequence import FrameMesh
from blender_talkhead.contract.motion_clip import ClipTemplate
from tests.synthetic_clip import make_ball
from torch_backend.inference.facetalk_sampling import SamplingConfig, draw_frame_noise

FRAME_RATE = 24.0
CODE_SIZE = 200
BLOCK = 10


@dataclass(frozen=True)
class StubSurface:
    """What `extract` needs."""

    grid: int
    has_colors: bool = True
    pictures: dict[str, bytes] = field(default_factory=dict)


class StubPredictor:
    """As inference.facetalk.FaceTalkPredictor; counts what it was asked for."""

    frame_rate = FRAME_RATE
    precision = "float32"
    device = "cpu"
    weights_sha256 = "ab" * 32
    head_weights_sha256 = "cd" * 32
    encoder = SimpleNamespace(name="stub")
    seconds_a_frame = 0.0
    num_extracted = 0
    num_drawn = 0

    @classmethod
    def load(cls, *_: Any) -> StubPredictor:
        return cls()

    def count_frames(self, num_samples: int) -> int:
        return int(num_samples / 16_000 * FRAME_RATE) + 1

    def sample(
        self, samples: NDArray[np.float32], config: SamplingConfig, progress: Callable[[float], None]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        num_frames = self.count_frames(len(samples))
        for first in range(0, num_frames, BLOCK):
            count = min(BLOCK, num_frames - first)
            takes = range(config.first_take, config.first_take + config.takes)
            noise = [draw_frame_noise(config.seed, take, 0, first, count, CODE_SIZE) for take in takes]
            type(self).num_drawn += count * len(noise)
            yield first, config.diversity * np.stack(noise)
            progress((first + count) / num_frames)

    def plan(self, num_vertices: int | None, identity: str | None, seed: int) -> ClipTemplate:
        del identity, seed
        mesh = make_ball(8 if num_vertices is None else int(num_vertices**0.5), 0.0)
        corners = len(mesh.faces) * 3
        return ClipTemplate(
            template_vertices=mesh.vertices,
            polygon_starts=np.arange(0, corners + 1, 3, dtype=np.int32),
            polygon_vertices=mesh.faces.reshape(-1),
            corner_uvs=np.zeros((corners, 2), np.float32),
            vertex_colors=np.full((len(mesh.vertices), 3), 0.5, np.float32),
        )

    def animate(self, codes: NDArray[np.float32], samples: Any, plan: ClipTemplate, *_: Any) -> Any:
        del samples

        def run(report: Callable[[float], None]) -> Iterator[tuple[int, NDArray[np.float32]]]:
            for first in range(0, len(codes), BLOCK):
                size = 0.1 * codes[first : first + BLOCK, 0]
                yield first, (size[:, None, None] * plan.template_vertices).astype(np.float32)
                report((first + len(size)) / len(codes))

        return SimpleNamespace(animate=run, tracks=lambda: None)

    def surface_plan(self, identity: str | None, grid: int) -> StubSurface:
        del identity
        return StubSurface(grid)

    def extract(
        self,
        codes: NDArray[np.float32],
        samples: Any,
        plan: StubSurface,
        seed: int,
        first_frame: int = 0,
        performance: bool = True,
    ) -> Iterator[FrameMesh]:
        del samples, seed, performance
        for index in range(first_frame, len(codes)):
            time.sleep(self.seconds_a_frame)
            type(self).num_extracted += 1
            yield make_ball(plan.grid // 8 + index % 3, float(codes[index, 0]))


def install() -> None:
    """Let jobs of this process use the stand-in."""
    from torch_backend.inference import facetalk

    facetalk.FaceTalkPredictor = StubPredictor  # type: ignore[misc]
