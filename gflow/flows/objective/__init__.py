"""Objectives of networks: their derivatives, in chunks of the data, split by rows."""
