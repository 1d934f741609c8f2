"""Fits of head models to scans: expression codes of point-cloud sequences, identities of meshes, and what they need."""
