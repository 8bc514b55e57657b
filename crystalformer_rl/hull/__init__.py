"""Formation energies and distances to the convex hull of a reference, on one energy scale."""

from crystalformer_rl.hull.convex_hull import Hull, HullDistance, NoReferenceEnergyError
from crystalformer_rl.hull.hull_table import hull_table, row_status

__all__ = ["Hull", "HullDistance", "NoReferenceEnergyError", "hull_table", "row_status"]
