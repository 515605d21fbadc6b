"""Reports of runs and sweeps as one HTML file, comparisons of runs, and citations."""
