"""An environment for a potential, and its bias against the scale of a reference's DFT energies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from crystalformer_rl.errors import InputError
from crystalformer_rl.potential import load
from crystalformer_rl.potential.bias_measurement import NoBiasError, measure_bias
from crystalformer_rl.potential.environments import environment, make
from crystalformer_rl.potential.potential_registry import environment_key, find, importable
from crystalformer_rl.potential.stored_biases import store_bias
from crystalformer_rl.reference.bias import Bias
from crystalformer_rl.reference.identity import Corrections, PotentialIdentity

Advance = Callable[[int], object] | None


class Installed(NamedTuple):
    """folder: of its environment, None where it runs in this Python; bias: None where `missing` says why there is none."""

    folder: Path | None
    identity: PotentialIdentity
    bias: Bias | None
    missing: str


def install_potential(
    name: str,
    requirements: Sequence[str] = (),
    *,
    reference: str | Path,
    corrections: Corrections | None = None,
    again: bool = False,
    report: Callable[[str], object] = lambda _: None,
    advance: Advance = None,
) -> Installed:
    """Make an environment for the potential `name` where it needs one, measure its bias on a reference, and store that.

    An environment is made for a potential that cannot be imported here, where `requirements` say what pip installs besides,
    and `again` where there is one already. corrections: those in the potential's energies, where its identity does not say. Raises
    InputError for a name that is not one, and where pip fails or the potential cannot be loaded.
    """
    found, _ = find(name)
    place = environment(environment_key(name))
    if again or requirements or not (place.there or importable(name)):
        if not (found.requires or requirements):
            raise InputError(f"nobody says what '{name}' needs; name the packages that it requires.")
        make(place, name, [*found.requires, *requirements], report)
    potential = load(name)
    report(f"measuring the bias of {potential.identity} on entries of {reference}")
    bias, missing = None, ""
    try:
        bias = measure_bias(potential, reference, corrections=corrections, advance=advance)
        store_bias(potential.identity, bias)
    except NoBiasError as error:
        missing = str(error)
    return Installed(place.folder if place.there else None, potential.identity, bias, missing)
