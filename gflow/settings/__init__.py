"""The settings that scenarios run: one model in one file each, discovered by name."""
