"""The built-in parametric head."""
