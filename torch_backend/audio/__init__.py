"""Recordings in, features on the animation frame grid out."""
