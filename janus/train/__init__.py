"""The trainer: one loop, three stages as recipes (design D9, D10). `python -m janus.train --help`."""
