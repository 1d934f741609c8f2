"""What ARKit curves leave out of a motion."""

from __future__ import annotations

import numpy as np

from blender_talkhead.facial.remainder import CURVE_STEPS, remainder_reader, round_curves


def test_curves_are_rounded_to_steps_within_their_range() -> None:
    step = 1.0 / CURVE_STEPS
    curves = np.array([[-0.1, 0.4 * step, 0.6 * step, 1.5]], np.float32)
    rounded = round_curves(curves)
    np.testing.assert_allclose(rounded, [[0.0, 0.0, step, 1.0]], rtol=1e-6)
    np.testing.assert_array_equal(round_curves(rounded), rounded)


def test_the_remainder_and_the_curves_make_the_motion() -> None:
    generator = np.random.default_rng(0)
    motion = generator.normal(size=(9, 6, 3)).astype(np.float32)
    curves, shapes = generator.random((9, 4), np.float32), generator.normal(size=(4, 6, 3)).astype(np.float32)
    read = remainder_reader(lambda first, stop: motion[first:stop], curves, shapes)
    for first, stop in ((0, 9), (2, 3), (7, 9)):
        made = sum(curves[first:stop, k, None, None] * shapes[k] for k in range(4))
        np.testing.assert_allclose(read(first, stop) + made, motion[first:stop], atol=1e-5)
