"""What an entry of a reference is to the policy and to the hull."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Every role that an entry may have; `meaning` is its sentence."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Role:
        role = str.__new__(cls, value)
        role._value_ = value
        role.meaning = meaning
        return role

    PRETRAINING = "pretraining", "a known structure that the policy was trained on"
    RECOVERED = "recovered", "a structure found by its energy that the policy was trained on: probably right, and on no hull"
    HELD_OUT = "held_out", "a known structure of a formula that no policy is trained on"
    HULL_ONLY = "hull_only", "an energy for the hull alone"


TRAINED = (Role.PRETRAINING, Role.RECOVERED)
"""Roles of what the policy was trained on."""
