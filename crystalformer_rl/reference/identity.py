"""Whose energies these are: a potential's, or density-functional theory's, and on which scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_MACE_HEAD = "those of the training energies, head "


class Functional(StrEnum):
    """The density functional that energies are of, or were learned from. PBE: PBE and PBE+U as the Materials Project mixes them."""

    PBE = "PBE"
    PBESOL = "PBEsol"
    SCAN = "SCAN"
    R2SCAN = "r2SCAN"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, name: str | None) -> Functional:
        """The functional of that name; `UNKNOWN` for another."""
        return cls(name) if name in {member.value for member in cls} else cls.UNKNOWN


FUNCTIONALS = tuple(functional.value for functional in Functional if functional is not Functional.UNKNOWN)


class Corrections(StrEnum):
    """What was added to the functional's energies before anybody learned or stored them."""

    MP2020 = "MP2020"
    NONE = "none"
    AS_GIVEN = "as given, under no known name"
    UNKNOWN = "unknown"


class Method(StrEnum):
    """Where energies come from."""

    POTENTIAL = "potential"
    DFT = "DFT"


@dataclass(frozen=True)
class PotentialIdentity:
    """Two energies may be compared where their identities are equal, and nowhere else.

    digest: SHA-256 of the potential's weights, or of the file that DFT energies were read from. variant: which of several
    outputs of one set of weights, such as the head of a MACE model; empty for the only one.
    """

    name: str
    digest: str
    functional: Functional = Functional.UNKNOWN
    corrections: Corrections = Corrections.UNKNOWN
    method: Method = Method.POTENTIAL
    variant: str = ""

    def __str__(self) -> str:
        """`CHGNet 0.3.0 (weights 1a2b3c4d, PBE, corrections MP2020)`; of DFT energies `file` in place of `weights`."""
        what = "file" if self.method is Method.DFT else "weights"
        functional = "" if self.functional is Functional.UNKNOWN else self.functional.value
        parts = (f"{what} {self.digest[:8] or 'unknown'}", functional, f"corrections {self.corrections}", self.variant)
        return f"{self.name} ({', '.join(part for part in parts if part)})"

    def as_record(self) -> dict[str, str]:
        """What a file's provenance holds of it."""
        return {
            "name": self.name,
            "weights_sha256": self.digest,
            "functional": self.functional.value,
            "corrections": self.corrections.value,
            "method": self.method.value,
            "variant": self.variant,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> PotentialIdentity | None:
        """From a file's provenance, today's or of version 0.1, whose `corrections` were prose; None for no record."""
        if not record or not record.get("name"):
            return None
        words = str(record.get("corrections") or "")
        known = "variant" in record
        return cls(
            name=str(record["name"]),
            digest=str(record.get("weights_sha256") or ""),
            functional=Functional.of(record.get("functional")) if known else _old_functional(record, words),
            corrections=_member(Corrections, words) if known else _old_corrections(words),
            method=Method.DFT if record.get("method") == Method.DFT.value else Method.POTENTIAL,
            variant=str(
                record.get("variant")
                or (words.removeprefix("those of the training energies, ") if words.startswith(_MACE_HEAD) else "")
            ),
        )


def _member(kind: type[Any], value: Any) -> Any:
    """The member of that value; `UNKNOWN` for another."""
    return kind(value) if value in {member.value for member in kind} else kind.UNKNOWN


def _old_corrections(words: str) -> Corrections:
    lowered = words.strip().lower()
    if lowered.startswith("mp2020"):
        return Corrections.MP2020
    return Corrections.NONE if lowered.startswith("none") else _member(Corrections, words)


def _old_functional(record: Mapping[str, Any], words: str) -> Functional:
    if record.get("functional"):
        return Functional.of(record["functional"])
    if "r2scan" in f"{record['name']} {words}".lower().replace("²", "2"):
        return Functional.R2SCAN
    return Functional.PBE if _old_corrections(words) is Corrections.MP2020 else Functional.UNKNOWN
