"""Model folders: reading, writing and converting the checkpoint layouts of a Janus."""
