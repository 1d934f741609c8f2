"""TalkHead: recorded speech into facial animation. bpy is imported only when Blender registers the extension."""
