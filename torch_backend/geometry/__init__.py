"""Surfaces: parameterization, sampling, triangulation."""
