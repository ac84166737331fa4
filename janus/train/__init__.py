"""The trainer: one loop, three stages as recipes (DESIGN D9, D10). `python -m janus.train --help`."""
