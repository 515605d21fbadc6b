"""The stepping loop of gflow's own methods and its parts."""
