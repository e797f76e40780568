"""A run as a folder: its name, logs, resuming, and ranks."""
