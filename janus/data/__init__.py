"""From a snapshot to packed batches: memory-mapped shards, closed-form order, packing."""
