"""Looking at corpora: what list, compare and inspect share."""
