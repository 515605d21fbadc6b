"""Linear algebra: Lanczos iteration, exponentials, eigenvalues."""
