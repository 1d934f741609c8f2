"""The training loop and one recipe per model."""
