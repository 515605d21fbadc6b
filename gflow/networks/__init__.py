"""Networks on sequences that scenarios know by name."""
