"""A checkpoint as a file: safe reading, atomic writing, hashes, download."""
