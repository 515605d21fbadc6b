"""Runs on disk: executed, resumed, read back."""
