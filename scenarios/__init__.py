"""Scenarios that come with gflow, one TOML file each; installed as ``gflow.scenarios``."""
