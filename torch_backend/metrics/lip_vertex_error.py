"""E_vl, also called LVE: how far the worst lip vertex is off."""

from __future__ import annotations

from torch_backend.metrics.region_vertex_error import RegionVertexError


class LipVertexError(RegionVertexError):
    """E_vl = 1 / T * sum_t max_{v in lips} ||true - predicted||^2, in m^2, lower is better.

    MMTalker eq. 11; LVE of CodeTalker, FaceDiffuser and SelfTalk. VOCASET tables print it "x 1e-5 mm", which is
    1e-5 m^2: the squared unit of vertices in metres. Papers differ in the mask (250 or 428 vertices of FLAME), and a
    larger mask gives a larger maximum: state the mask.
    """
