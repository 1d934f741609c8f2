"""Finds the Python that has torch, starts the backend and reads its messages (no bpy)."""
