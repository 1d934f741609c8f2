"""Metrics under their published names."""
