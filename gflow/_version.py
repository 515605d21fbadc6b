"""The version of gflow, in one place."""

__version__ = "0.1.0"
