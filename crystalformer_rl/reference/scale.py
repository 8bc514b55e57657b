"""Which scale energies are on: the density functional, and the corrections that are in them.

A potential's energies may stand beside a DFT hull only where both are on one scale. This module decides from the
identities that files record, and refuses where that cannot be known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.hull_table import describe_identity

MP2020 = "MP2020"
NONE = "none"
AS_GIVEN = "as given, under no known name"

DFT = "DFT"
"""`method` of the identity of a reference that holds DFT energies."""


@dataclass(frozen=True)
class Scale:
    """functional: `PBE` (PBE and PBE+U as the Materials Project mixes them), `r2SCAN` …; corrections: `MP2020` or `none`.

    None where it is not known.
    """

    functional: str | None
    corrections: str | None


def is_dft(identity: Mapping[str, Any] | None) -> bool:
    """Whether the energies are DFT's own, not a potential's."""
    return bool(identity) and (identity or {}).get("method") == DFT


def dft_identity(digest: str, functional: str, corrections: str) -> dict[str, Any]:
    """The identity of a reference of given DFT energies; `digest`: SHA-256 of what they were read from."""
    name = "PBE/PBE+U" if functional == "PBE" else functional
    return {
        "name": f"DFT as given, {name}",
        "weights_sha256": digest,
        "corrections": corrections,
        "method": DFT,
        "functional": functional,
    }


def reference_scale(identity: Mapping[str, Any]) -> Scale:
    """The scale of a DFT reference."""
    corrections = identity.get("corrections")
    return Scale(identity.get("functional"), corrections if corrections in (MP2020, NONE) else None)


def potential_scale(identity: Mapping[str, Any]) -> Scale:
    """The scale of a potential's energies, as far as its identity says it.

    `corrections` that begin with `MP2020` or with `none` say it; everything else (a MACE head, `unknown`) does not.
    MP2020 is made for PBE(+U) and implies it; r2SCAN is known by its name.
    """
    text = str(identity.get("corrections") or "").strip().lower()
    corrections = MP2020 if text.startswith("mp2020") else NONE if text.startswith("none") else None
    named = f"{identity.get('name') or ''} {text}".lower().replace("²", "2")
    functional = "r2SCAN" if "r2scan" in named else "PBE" if corrections == MP2020 else None
    return Scale(functional, corrections)


def must_add_mp2020(
    crystals: str, found: Mapping[str, Any] | None, reference: str, expected: Mapping[str, Any], said: str | None
) -> bool:
    """Whether MP2020 corrections must be added to a potential's energies before they stand beside a DFT reference.

    `crystals` and `reference` name the files in messages; `found` and `expected` are the identities they record;
    `said` is what the user says of the potential's corrections, `mp2020` or `none`, where the identity
    does not. Raises InputError where the two cannot be brought to one scale.
    """
    if not is_dft(expected):
        raise InputError(
            f"{reference} holds energies of {describe_identity(expected)}, not of DFT; leave out --against-dft, or give "
            "a reference made with `crystalformer-rl reference --energies given`."
        )
    there = reference_scale(expected)
    if there.corrections is None:
        raise InputError(
            f"{reference} holds DFT energies with corrections of no known name, so no potential's energies can be brought "
            "to its scale; build it with `reference --energies given --corrections mp2020` (or none)."
        )
    here = potential_scale(found or {})
    corrections = _corrections(crystals, found or {}, here, said)
    if here.functional and there.functional and here.functional != there.functional:
        raise InputError(
            f"{crystals} holds energies of {describe_identity(found or {})}, which learned {here.functional}, but {reference} "
            f"holds {there.functional} energies; use a reference of the potential's functional."
        )
    if corrections == MP2020 and there.corrections == NONE:
        raise InputError(
            f"{crystals} holds energies that include MP2020 corrections but {reference} holds uncorrected ones; build the "
            "reference with `reference --energies given --corrections mp2020`."
        )
    return corrections == NONE and there.corrections == MP2020


def _corrections(crystals: str, found: Mapping[str, Any], scale: Scale, said: str | None) -> str:
    """The corrections in a potential's energies: what its identity says, or where it is silent what the user says."""
    claimed = None if said is None else MP2020 if said == "mp2020" else NONE
    if scale.corrections is None and claimed is None:
        who = f"of {describe_identity(found)}" if found else "of a potential that it does not name"
        raise InputError(
            f"{crystals} holds energies {who}, and whether these include MP2020 corrections is not recorded; say it with "
            "--potential-corrections mp2020 or none."
        )
    if scale.corrections is not None and claimed not in (None, scale.corrections):
        raise InputError(
            f"{crystals} holds energies of {describe_identity(found)}, which contradicts --potential-corrections {said}; "
            "leave the option out."
        )
    return scale.corrections or claimed or NONE
