"""Loggers: the progress of a run for the tools with which people follow experiments.

A logger is one file of this folder and about ten lines: `gflow.loggers.base.Logger` has the
contract. ``--log NAME`` and ``RunOptions(log=(NAME,))`` use it.
"""
