"""The built-in world, its base models, and `make demo`: everything small enough to see Janus Forge work end to end."""
