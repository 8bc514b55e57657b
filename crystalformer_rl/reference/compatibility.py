"""Whether two sets of energies may stand beside each other: they may where one potential, or one DFT data set, made both."""

from __future__ import annotations

from crystalformer_rl.errors import InputError
from crystalformer_rl.reference.identity import PotentialIdentity


def check_same_potential(
    crystals: str,
    found: PotentialIdentity | None,
    reference: str,
    expected: PotentialIdentity | None,
    remedy: str = "use a reference built with the same potential",
) -> None:
    """Refuse to compare energies of two potentials, or of one that is not named.

    `crystals` and `reference` name the two sides in the message; `found` and `expected` are the identities that they
    record; `remedy` ends the sentence where they differ. Raises InputError.
    """
    if expected is None:
        raise InputError(
            f"{reference} does not say which potential its energies are from; build it with `crystalformer-rl reference`."
        )
    if found is None:
        raise InputError(
            f"{crystals} does not say which potential its energies come from, and {reference} holds energies of "
            f"{expected}; relax with that potential, or say that it did."
        )
    if found != expected:
        raise InputError(f"{crystals} holds energies of {found} but {reference} holds energies of {expected}; {remedy}.")
