"""The jobs of the headless command."""
