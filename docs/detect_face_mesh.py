"""Detect faces in pictures by MediaPipe: python detect_face_mesh.py FOLDER, called by place_landmarks478.py.

Runs in a Python of its own that has `mediapipe` (0.10.x up to 0.10.14, whose wheel holds the models): it is a tool of
those who change the head, and no dependency of the product.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import mediapipe
import numpy as np


def main() -> None:
    """Write detections.npz beside the pictures: pixels (N, 478, 2), NaN where no face was found; edges (E, 2)."""
    folder = Path(sys.argv[1])
    pixels = []
    options = {"static_image_mode": True, "max_num_faces": 1, "refine_landmarks": True}
    with mediapipe.solutions.face_mesh.FaceMesh(**options, min_detection_confidence=0.3) as detector:
        for path in sorted(folder.glob("view_*.png")):
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            found = detector.process(image).multi_face_landmarks
            points = np.full((478, 2), np.nan)
            if found:
                points = np.array([(each.x, each.y) for each in found[0].landmark])
            pixels.append(points * image.shape[1::-1])
    edges = np.array(sorted(mediapipe.solutions.face_mesh.FACEMESH_TESSELATION))
    np.savez(folder / "detections.npz", pixels=np.array(pixels), edges=edges)


if __name__ == "__main__":
    main()
