"""Singular coordinates of W, and clusters of singular values too close to be told apart."""
