"""A reference's hull for a potential that it was not computed with, by the bias that was measured of the potential."""

from __future__ import annotations

from typing import NamedTuple

from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.stored_biases import stored_bias
from crystalformer_rl.reference.compatibility import check_same_potential
from crystalformer_rl.reference.energies import ReferenceEnergies
from crystalformer_rl.reference.foreign import for_potential
from crystalformer_rl.reference.identity import Corrections, Functional, PotentialIdentity
from crystalformer_rl.reference.scale import dft_identity, must_add_mp2020


class Placed(NamedTuple):
    """energies: what competes; own: whether they are the potential's; add_mp2020: whether its energies want corrections first."""

    energies: ReferenceEnergies
    own: bool
    add_mp2020: bool


def placed(energies: ReferenceEnergies, identity: PotentialIdentity, name: str, reference: str) -> Placed:
    """The reference's energies for the potential `name` of that identity.

    Its own as they are; else DFT's, moved by the bias that `potential install` measured. Raises InputError for a
    reference without DFT energies, a potential of another scale, and one whose bias was not measured.
    """
    if energies.identity == identity or energies.bias is None:
        check_same_potential(f"the potential {name}", identity, reference, energies.identity)
        return Placed(energies, True, False)
    scale = dft_identity("", Functional.PBE, Corrections.MP2020)
    add = must_add_mp2020(f"the potential {name}", identity, reference, scale, None)
    bias = stored_bias(identity)
    if bias is None:
        raise InputError(
            f"{reference} was computed with {energies.identity}, and the bias of {identity} against its DFT energies is not known; "
            f"`crystalformer-rl potential install {name}` measures it."
        )
    return Placed(for_potential(energies, identity, bias), False, add)
