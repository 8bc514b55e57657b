"""Whether a potential's energies can stand beside a DFT reference: both must be on one energy scale.

A scale is a density functional and the corrections added to its energies. This module decides from the identities that
files record, and refuses where that cannot be known.
"""

from __future__ import annotations

from crystalformer_rl.errors import InputError
from crystalformer_rl.reference.identity import Corrections, Functional, Method, PotentialIdentity

MP2020_SCALE = "MP PBE+U, MP2020"
"""The default scale: PBE and PBE+U as the Materials Project mixes them, with its corrections of 2020."""

_KNOWN = (Corrections.MP2020, Corrections.NONE)


def dft_identity(digest: str, functional: Functional, corrections: Corrections) -> PotentialIdentity:
    """The identity of a reference of given DFT energies; `digest`: SHA-256 of what they were read from."""
    name = "PBE/PBE+U" if functional is Functional.PBE else functional.value
    return PotentialIdentity(f"DFT as given, {name}", digest, functional, corrections, Method.DFT)


def is_dft(identity: PotentialIdentity | None) -> bool:
    """Whether the energies are DFT's own, not a potential's."""
    return identity is not None and identity.method is Method.DFT


def must_add_mp2020(
    crystals: str,
    found: PotentialIdentity | None,
    reference: str,
    expected: PotentialIdentity,
    said: Corrections | None,
) -> bool:
    """Whether MP2020 corrections must be added to a potential's energies before they stand beside a DFT reference.

    `crystals` and `reference` name the files in messages; `found` and `expected` are the identities they record; `said` is
    what the user says of the potential's corrections, MP2020 or none, where the identity does not. Raises InputError where
    the two cannot be brought to one scale.
    """
    if not is_dft(expected):
        raise InputError(
            f"{reference} holds energies of {expected}, not of DFT; compare with it as with any other reference, or give one "
            "of DFT energies as computed entries give them."
        )
    if expected.corrections not in _KNOWN:
        raise InputError(
            f"{reference} holds DFT energies with corrections of no known name, so no potential's energies can be brought "
            "to its scale; build it again with MP2020 corrections, or with none."
        )
    corrections = _corrections(crystals, found, said)
    functionals = {found.functional if found else Functional.UNKNOWN, expected.functional}
    if found is not None and Functional.UNKNOWN not in functionals and len(functionals) > 1:
        raise InputError(
            f"{crystals} holds energies of {found}, which learned {found.functional}, but {reference} "
            f"holds {expected.functional} energies; use a reference of the potential's functional."
        )
    if corrections is Corrections.MP2020 and expected.corrections is Corrections.NONE:
        raise InputError(
            f"{crystals} holds energies that include MP2020 corrections but {reference} holds uncorrected ones; build the "
            "reference with MP2020 corrections."
        )
    return corrections is Corrections.NONE and expected.corrections is Corrections.MP2020


def _corrections(crystals: str, found: PotentialIdentity | None, said: Corrections | None) -> Corrections:
    """The corrections in a potential's energies: what its identity says, or where it is silent what the user says."""
    recorded = found.corrections if found is not None else Corrections.UNKNOWN
    if recorded in _KNOWN:
        if said not in (None, recorded):
            raise InputError(
                f"{crystals} holds energies of {found}, which contradicts what is said of their corrections, {said}; leave that "
                "out."
            )
        return recorded
    if said is None:
        who = f"of {found}" if found is not None else "of a potential that it does not name"
        raise InputError(
            f"{crystals} holds energies {who}, and whether these include MP2020 corrections is not recorded; say whether they "
            "do."
        )
    return said
