"""Files: complete or absent when written, never trusted when read."""
