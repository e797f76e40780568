"""Checkpoint files: safe reading, atomic writing, hashes, download."""
