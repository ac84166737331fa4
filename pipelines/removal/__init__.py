"""Rows that must go: lists of them, what they name, and removing their bytes (design D18)."""
