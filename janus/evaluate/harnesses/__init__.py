"""Adapters that measure a Janus in other people's evaluation programs (docs/harnesses.md)."""
