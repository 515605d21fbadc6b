"""Objectives of networks: their derivatives, in chunks of the samples or split by rows."""
