"""Result folders onto Blender objects."""
