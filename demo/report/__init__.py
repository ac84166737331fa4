"""The report of a demo run."""
