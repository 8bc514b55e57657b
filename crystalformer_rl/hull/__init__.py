"""Formation energies and distances to the convex hull of a reference, on one energy scale."""
