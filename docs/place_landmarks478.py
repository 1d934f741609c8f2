"""Place the 478 landmarks of MediaPipe's face mesh on the built-in head and freeze them.

    python docs/place_landmarks478.py --mediapipe-python OTHER/bin/python [--check]

Needs the Python with the bpy module, and another one with `mediapipe` (see detect_face_mesh.py). The head is rendered
from several sides, at rest and with the lips apart; every detected point is carried along its ray onto the surface; the
median over the pictures, made symmetric, becomes a triangle and a place in it. --check places nothing and measures how
far what is frozen lies from a detection on a picture of its own.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from picture_studio import REPOSITORY, Sitter, View

from torch_backend.head import Head, load_head
from torch_backend.head.landmark_placement import Sighting, place_face_mesh, project_points
from torch_backend.head.landmarks478 import DATA_PATH, landmarks478, save_placement
from torch_backend.head.skin_texture import encode_png

logger = logging.getLogger("place_landmarks478")

SIZE_PX = 400
SAMPLES = 8
OPEN_POSE = {"jawOpen": 0.35, "mouthLowerDownLeft": 0.3, "mouthLowerDownRight": 0.3}
VIEWS = tuple(
    (turn, nod, pose)
    for turn, nod, pose in (
        (0, 0, {}), (-18, 0, {}), (18, 0, {}), (-40, 0, {}), (40, 0, {}), (0, -12, {}), (0, 12, {}),
        (28, 0, {}), (-50, 0, {}),
        (0, 0, OPEN_POSE), (-14, 0, OPEN_POSE), (14, 0, OPEN_POSE), (0, -12, OPEN_POSE),
    )
)  # fmt: skip
CHECK_VIEWS = ((6, 4, {}), (-24, -5, {}), (9, 2, {"jawOpen": 0.2}))
"""Sides that nothing was placed by."""
CAMERA_TURN_DEGREES = 11.0
"""The portrait camera stands that far to the left: turned back, the head faces it."""
OUTER_EYE_CORNERS = (33, 263)


def photograph(head: Head, views: tuple[tuple[float, float, dict[str, float]], ...], folder: Path) -> list[Sighting]:
    """Render the head, where the folder holds no pictures yet; returns what they show, without detections."""
    sitter = Sitter.invite(samples=SAMPLES)
    studio = sitter.studio
    sightings = []
    for number, (turn, nod, pose) in enumerate(views):
        vertices = head.pose(pose)
        view = View(SIZE_PX, turn + CAMERA_TURN_DEGREES, nod_degrees=nod, zoom=1.15)
        path = folder / f"view_{number:02d}.png"
        if path.exists():
            studio.aim(view)
        else:
            path.write_bytes(encode_png(sitter.photograph(vertices, view)))
        sightings.append(Sighting(np.full((478, 2), np.nan), studio.projection(), vertices, bool(pose), turn))
    return sightings


def detect(python: Path, folder: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return pixels (N, 478, 2) of all pictures of a folder, and the edges (E, 2) of the face mesh."""
    script = REPOSITORY / "docs" / "detect_face_mesh.py"
    subprocess.run([str(python), str(script), str(folder)], check=True, capture_output=True)
    with np.load(folder / "detections.npz") as found:
        return found["pixels"], found["edges"]


def measure(sightings: list[Sighting]) -> None:
    """Report how far the frozen points, projected, lie from the detected ones."""
    for sighting in sightings:
        projected = project_points(sighting.projection, landmarks478(sighting.vertices))
        error = np.linalg.norm(projected - sighting.pixels, axis=1)
        eyes = np.linalg.norm(np.diff(projected[list(OUTER_EYE_CORNERS)], axis=0))
        logger.info(
            "mean %.2f px, 95 %% %.2f px; %.2f %% of the distance of the outer eye corners",
            error.mean(), np.percentile(error, 95), 100.0 * error.mean() / eyes,
        )  # fmt: skip


def main() -> None:
    """Place the landmarks, or check them."""
    parser = argparse.ArgumentParser(description="Place the 478 face mesh landmarks on the built-in head.")
    parser.add_argument("--mediapipe-python", type=Path, required=True, help="Python that has mediapipe")
    parser.add_argument("--check", action="store_true", help="measure what is frozen, place nothing")
    parser.add_argument("--output", type=Path, default=DATA_PATH)
    parser.add_argument(
        "--keep",
        type=Path,
        help="folder for pictures and detections, those in it are used again",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    head = load_head()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sightings = photograph(head, CHECK_VIEWS if arguments.check else VIEWS, folder)
        pixels, edges = detect(arguments.mediapipe_python, folder)
    seen = [one.with_pixels(found) for one, found in zip(sightings, pixels, strict=True) if np.isfinite(found).all()]
    logger.info("a face was found in %d of %d pictures", len(seen), len(sightings))
    if arguments.check:
        measure(seen)
        return
    placement = place_face_mesh(head, seen, edges)
    save_placement(head, placement, arguments.output)
    logger.info("%s: spread of the sightings %.2f mm", arguments.output.name, 1000.0 * placement.spread_m.mean())


if __name__ == "__main__":
    main()
