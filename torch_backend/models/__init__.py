"""One published model a file, and the builders that turn configs into models."""
