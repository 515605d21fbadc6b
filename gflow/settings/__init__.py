"""Models of the settings that scenarios run, one file each, found by name."""
