"""How a solve is executed: with checkpoints, in a batch, across processes."""
