"""Benchmarks, one file each, found by being there (design D13). What a file holds: `janus.evaluate.benchmark`.

Other packages name theirs as entry points of the group `janus_forge.benchmarks`.
"""
