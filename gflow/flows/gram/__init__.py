"""Gram matrices of a kernel flow: as a matrix, by tiles, split by rows."""
