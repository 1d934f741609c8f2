"""Arrays to Blender data and back, in bulk."""
