import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torch_backend.audio.frame_grid import compute_row_positions, count_frames, find_row_range, interpolate_rows


@pytest.mark.parametrize(
    ("duration_seconds", "frame_rate", "expected"),
    [(0.0, 30.0, 1), (1.0, 30.0, 31), (0.999, 30.0, 30), (0.1, 30.0, 4), (2.0, 24.0, 49), (10.01, 30 / 1.001, 301)],
)
def test_frame_counts(duration_seconds, frame_rate, expected):
    assert count_frames(duration_seconds, frame_rate) == expected


@given(st.floats(0.0, 5000.0), st.sampled_from([24.0, 25.0, 30 / 1.001, 30.0, 60.0]))
def test_the_last_frame_lies_within_the_recording(duration_seconds, frame_rate):
    last = count_frames(duration_seconds, frame_rate) - 1
    assert last / frame_rate <= duration_seconds + 1e-6 < (last + 1) / frame_rate + 2e-6


def test_positions_count_the_half_row():
    # frame 3 at 30 per second is at 0.1 s; rows of 20 ms: row 4 is centred at 0.09 s, row 5 at 0.11 s
    assert compute_row_positions(3, 1, 30.0, 50.0, 100)[0] == pytest.approx(4.5)
    assert compute_row_positions(3, 1, 30.0, 50.0, 100, row_center=0.625)[0] == pytest.approx(4.375)


def test_positions_stop_at_the_ends_of_the_recording():
    positions = compute_row_positions(0, 100, 30.0, 50.0, 20)
    assert positions[0] == 0.0 and positions[-1] == 19.0


def test_interpolation_of_a_line_is_exact():
    rows = (np.arange(10, 20, dtype=np.float64) * 3.0)[:, None]
    positions = np.array([10.0, 12.25, 18.75, 19.0])
    np.testing.assert_allclose(interpolate_rows(rows, 10, positions)[:, 0], 3.0 * positions)


@given(st.integers(0, 300), st.integers(1, 50), st.sampled_from([24.0, 29.97, 30.0, 60.0]))
def test_the_row_range_holds_every_position(first_frame, num_frames, frame_rate):
    positions = compute_row_positions(first_frame, num_frames, frame_rate, 50.0, 400)
    first, stop = find_row_range(positions)
    assert first >= 0 and stop <= 400
    assert interpolate_rows(np.zeros((stop - first, 2)), first, positions).shape == (num_frames, 2)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="duration"):
        count_frames(-1.0, 30.0)
    with pytest.raises(ValueError, match="positive rates"):
        compute_row_positions(0, 1, 0.0, 50.0, 10)
    with pytest.raises(ValueError, match="positions within"):
        interpolate_rows(np.zeros((3, 1)), 0, np.array([3.5]))
