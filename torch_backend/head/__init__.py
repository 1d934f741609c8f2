"""The built-in parametric head."""

from torch_backend.head.head import Head, load_head

__all__ = ["Head", "load_head"]
