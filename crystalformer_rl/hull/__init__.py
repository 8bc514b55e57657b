"""Formation energies and distances to the convex hull of a reference, on one energy scale."""

from crystalformer_rl.hull.convex_hull import SUSPECT_BELOW, Entry, Hull, HullDistance, NoReferenceEnergyError
from crystalformer_rl.hull.hull_table import check_same_potential, describe_identity, hull_table, row_status

__all__ = [
    "SUSPECT_BELOW",
    "Entry",
    "Hull",
    "HullDistance",
    "NoReferenceEnergyError",
    "check_same_potential",
    "describe_identity",
    "hull_table",
    "row_status",
]
