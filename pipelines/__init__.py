"""How a corpus is made: Beam steps over shards, from sources to a published snapshot."""
