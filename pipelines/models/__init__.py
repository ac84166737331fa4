"""Models that several signals share: how they are named, fingerprinted, loaded and run."""
