"""The 68 facial landmarks: points pinned into the mesh before the fill, and their order (author space, cm)."""

from __future__ import annotations

PINNED_MIDLINE = [
    (0.0, 8.66, -10.91),  # 8, chin
    (0.0, 9.53, 0.56),  # 27..30, bridge of the nose
    (0.0, 10.07, -0.56),
    (0.0, 10.87, -2.00),
    (0.0, 11.55, -3.28),
    (0.0, 10.02, -4.72),  # 33, nose base
]
"""Landmarks on the midline."""

PINNED_SIDE = [
    (1.5, 8.05, -10.85),  # 9..16, jaw line from the chin to the left ear
    (2.9, 6.6, -10.35),
    (4.1, 4.6, -9.25),
    (5.0, 2.9, -7.9),
    (5.8, 2.0, -6.2),
    (6.3, 1.6, -4.4),
    (6.65, 1.35, -2.6),
    (6.8, 1.3, -0.8),
    (1.5, 9.6, 1.95),  # 22..26, left brow from the nose outwards
    (2.4, 9.4, 2.5),
    (3.3, 8.9, 2.7),
    (4.2, 8.2, 2.5),
    (5.0, 7.4, 1.95),
    (0.75, 9.67, -4.50),  # 34, 35, nose base to the wing
    (1.54, 9.75, -4.26),
]
"""Landmarks of the left side."""
