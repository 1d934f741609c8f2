"""What crosses the process boundary: errors, messages and result folders (no bpy, no torch)."""
