"""Results of studies as labelled arrays, summaries and tables."""
