"""E_ve: how far the worst vertex of the eye region is off."""

from __future__ import annotations

from torch_backend.metrics.region_vertex_error import RegionVertexError


class EyeVertexError(RegionVertexError):
    """E_ve = 1 / T * sum_t max_{v in eye region} ||true - predicted||^2, in m^2, lower is better.

    MMTalker eq. 12. The paper names neither mask nor root: the squared form of E_vl and the head's `eye_region` are
    used here. Not EmoTalk's EVE ("emotional vertex error", eyes and forehead).
    """
