"""Crystals that no policy drew: known ones to screen, and known ones with their elements exchanged."""
