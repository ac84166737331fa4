"""Answers and images from a trained Janus."""
