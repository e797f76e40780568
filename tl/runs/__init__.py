"""A run as a folder: its name, its logs, resuming it, its ranks."""
