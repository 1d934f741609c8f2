"""Facial vocabulary and time: blendshape names, seconds and frames (no bpy)."""
