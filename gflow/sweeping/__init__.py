"""Sweeps: one scenario at many points, on a distributed engine, resumable, one dataset."""
