"""Where a corpus lies: a folder of this machine, or a prefix of an object store (design D15)."""
