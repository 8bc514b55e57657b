"""Crystals and entries as people have them: files, folders, archives, tables and objects, read or refused by name."""
