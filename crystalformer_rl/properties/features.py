"""What the property models see of a crystal: numbers of its composition and of its atoms' surroundings.

Every feature is the same for a supercell, a rotated cell or another order of the
atoms. numpy and pymatgen's search for neighbours are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crystalformer_rl.crystal.elements import reduced_composition
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.properties.element_table import N_ELEMENTS, PROPERTIES

_COLUMN = {name: i for i, name in enumerate(PROPERTIES)}
SAME_ATOM = 1e-4  # Å; nearer than this an atom is itself
_MOST_ASSIGNMENTS = 20_000  # assignments of oxidation states that are tried for one composition

#: Groups of elements whose atom fractions are features.
FAMILIES: dict[str, tuple[int, ...]] = {
    "hydrogen": (1,),
    "alkali": (3, 11, 19, 37, 55, 87),
    "alkaline_earth": (4, 12, 20, 38, 56, 88),
    "early_transition": (*range(21, 25), *range(39, 43), *range(72, 75)),
    "late_transition": (*range(25, 31), *range(43, 49), *range(75, 81)),
    "lanthanide": tuple(range(57, 72)),
    "actinide": tuple(range(89, 95)),
    "boron_group": (5, 13, 31, 49, 81),
    "carbon_group": (6, 14, 32, 50, 82),
    "nitrogen_group": (7, 15, 33, 51, 83),
    "oxygen": (8,),
    "chalcogen": (16, 34, 52, 84),
    "fluorine": (9,),
    "halogen": (17, 35, 53, 85),
    "noble_gas": (2, 10, 18, 36, 54, 86),
}


def column_of(name: str) -> int:
    """The column of a property of elements in `Elements.table`."""
    return _COLUMN[name]


@dataclass(frozen=True)
class Elements:
    """The periodic table that features are made of; kept with the models.

    table: (94, len(PROPERTIES)); states: (94, most) common oxidation states, NaN
    where there are fewer.
    """

    table: np.ndarray
    states: np.ndarray


def composition_features(atomic_numbers: np.ndarray, elements: Elements) -> dict[str, float]:
    """Statistics of element properties weighted by atom fraction, families' fractions, charge balance.

    atomic_numbers: (N,), all at most 94.
    """
    counts = reduced_composition(atomic_numbers)
    z = np.array(list(counts)) - 1
    amount = np.array(list(counts.values()), float)
    weight = amount / amount.sum()
    values = elements.table[z]
    mean = weight @ values
    deviation = weight @ np.abs(values - mean)
    features: dict[str, float] = {}
    for i, name in enumerate(PROPERTIES):
        features[f"{name}_mean"] = mean[i]
        features[f"{name}_deviation"] = deviation[i]
        features[f"{name}_min"] = values[:, i].min()
        features[f"{name}_max"] = values[:, i].max()
    # the most and the least electronegative element stand for anion and cation
    order = np.argsort(values[:, _COLUMN["electronegativity"]], kind="stable")
    for role, index in (("anion", order[-1]), ("cation", order[0])):
        features[f"{role}_fraction"] = weight[index]
        for name in (
            "electronegativity",
            "ionic_radius",
            "ionization_energy",
            "electron_affinity",
            "row",
            "group",
            "highest_level",
        ):
            features[f"{role}_{name}"] = values[index, _COLUMN[name]]
    for family, members in FAMILIES.items():
        features[f"fraction_{family}"] = weight[np.isin(z + 1, members)].sum()
    valence = values[:, [_COLUMN[f"{shell}_electrons"] for shell in "spdf"]].sum(axis=1)
    features["n_elements"] = len(z)
    features["largest_fraction"] = weight.max()
    # an odd number of electrons a formula unit cannot fill bands in pairs
    features["odd_electrons"] = (amount @ valence) % 2
    features["charge_imbalance"], features["charge_spread"] = _charge_balance(z, weight, elements)
    return {name: float(value) for name, value in features.items()}


def _charge_balance(z: np.ndarray, weight: np.ndarray, elements: Elements) -> tuple[float, float]:
    """Least |charge| an atom that one oxidation state for each element allows, and the mean |charge| in that assignment."""
    total = np.zeros(1)
    spread = np.zeros(1)
    for index, w in zip(z, weight, strict=True):
        states = elements.states[index]
        states = states[np.isfinite(states)]
        if len(total) * len(states) > _MOST_ASSIGNMENTS:
            states = states[np.argmax(np.abs(states))][None]
        total = (total[:, None] + w * states).ravel()
        spread = (spread[:, None] + w * np.abs(states)).ravel()
    imbalance = np.abs(total)
    # among equally balanced assignments the most ionic one
    best = np.lexsort((-spread, np.round(imbalance, 9)))[0]
    return float(imbalance[best]), float(spread[best])


def structure_features(crystal: Crystal, elements: Elements) -> dict[str, float]:
    """Density, and the surroundings of the atoms averaged over them.

    Neighbours are weighted by exp(1 − (d/d₁)⁶), d the distance and d₁ the shortest one
    at the atom, as in the effective coordination number of R. Hoppe, Z. Kristallogr.
    150, 23 (1979).
    """
    z = np.asarray(crystal.atomic_numbers) - 1
    n = len(z)
    volume = crystal.volume / n
    radius = elements.table[z, _COLUMN["radius"]]
    electronegativity = elements.table[z, _COLUMN["electronegativity"]]
    features = {
        "volume_per_atom": volume,
        "log_volume_per_atom": np.log(volume),
        "density": elements.table[z, _COLUMN["mass"]].mean() / volume,
        "packing": 4 / 3 * np.pi * np.mean(radius**3) / volume,
        "volume_ratio": volume / np.mean(elements.table[z, _COLUMN["molar_volume"]]),
        "electron_density": elements.table[z][:, [_COLUMN[f"{s}_electrons"] for s in "spdf"]].sum() / (n * volume),
    }
    first, second, distance = _surroundings(crystal, 3.0 * volume ** (1 / 3))
    relative = distance / (radius[first] + radius[second])
    nearest = np.full(n, np.inf)
    np.minimum.at(nearest, first, distance)
    weight = np.exp(1 - np.minimum(distance / nearest[first], 3.0) ** 6)

    def at_atoms(values: np.ndarray) -> np.ndarray:
        return np.bincount(first, weight * values, n) / coordination

    coordination = np.bincount(first, weight, n)
    difference = electronegativity[second] - electronegativity[first]
    surroundings = {
        "coordination": coordination,
        "bond_length": at_atoms(distance),
        "relative_bond_length": at_atoms(relative),
        "polarity": at_atoms(np.abs(difference)),
        "signed_polarity": at_atoms(difference),
        "like_neighbours": at_atoms((z[first] == z[second]).astype(float)),
        "neighbour_electronegativity": at_atoms(electronegativity[second]),
        "bond_length_spread": np.sqrt(np.maximum(at_atoms(distance**2) - at_atoms(distance) ** 2, 0.0)),
    }
    anion = electronegativity == electronegativity.max()
    cation = electronegativity == electronegativity.min()
    for name, values in surroundings.items():
        features[f"{name}_mean"] = values.mean()
        features[f"{name}_std"] = values.std()
        features[f"{name}_min"] = values.min()
        features[f"{name}_max"] = values.max()
        features[f"{name}_anion"] = values[anion].mean()
        features[f"{name}_cation"] = values[cation].mean()
    anion_pairs = anion[first] & anion[second]
    features["anion_anion_distance"] = distance[anion_pairs].min() if anion_pairs.any() else 3.0 * volume ** (1 / 3)
    return {name: float(value) for name, value in features.items()}


def _surroundings(crystal: Crystal, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`neighbours` within `reach` (Å), or further where an atom has none there."""
    while True:
        found = neighbours(crystal, reach)
        if len(np.unique(found[0])) == len(crystal):
            return found
        reach *= 1.5


def neighbours(crystal: Crystal, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ordered pairs of atoms nearer than `reach` (Å) with images: first (P,), second (P,), distance (P,) in Å."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice = np.ascontiguousarray(crystal.lattice, dtype=float)
    positions = (np.asarray(crystal.frac_coords, float) % 1.0) @ lattice
    periodic = np.ones(3, dtype=np.int64)
    first, second, image, _ = find_points_in_spheres(positions, positions, float(reach), periodic, lattice, tol=1e-8)
    # sums over neighbours keep their last digits when the pairs come in one order, whoever found them
    order = np.lexsort((*image.T[::-1], second, first))
    first, second, image = first[order], second[order], image[order]
    vector = positions[second] - positions[first] + image @ lattice
    distance = np.sqrt(np.einsum("px,px->p", vector, vector))
    others = distance > SAME_ATOM
    return first[others], second[others], distance[others]


def feature_matrix(crystals: Sequence[Crystal], elements: Elements) -> tuple[np.ndarray, list[str]]:
    """Features (N, d) of crystals and their names (d)."""
    rows = [composition_features(c.atomic_numbers, elements) | structure_features(c, elements) for c in crystals]
    names = list(rows[0]) if rows else []
    return np.array([[row[name] for name in names] for row in rows]).reshape(len(rows), len(names)), names


def feature_names(elements: Elements) -> list[str]:
    """Names of the features, in order."""
    rock_salt = Crystal(np.array([11, 17]), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), 4.0 * (1 - np.eye(3)) / np.sqrt(2))
    return feature_matrix([rock_salt], elements)[1]


def n_composition_features(elements: Elements) -> int:
    """How many of the features, counted from the first, are of the composition alone."""
    return len(composition_features(np.array([11, 17]), elements))


def supported(crystal: Crystal) -> bool:
    """Whether the table of elements covers the crystal."""
    return bool(np.max(crystal.atomic_numbers) <= N_ELEMENTS)
