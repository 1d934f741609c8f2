"""TalkHead backend: models, training and inference on torch, in a process of its own (never imports bpy)."""
