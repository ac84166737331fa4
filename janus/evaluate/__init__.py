"""Measurement: questions about images and images from prompts, in the layouts and rules of the public benchmarks."""
