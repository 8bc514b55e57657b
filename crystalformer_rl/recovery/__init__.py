"""Structures for compositions whose energy is known: prototypes with their elements exchanged, judged by that energy."""
