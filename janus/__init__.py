"""Janus: the model, its data, its training and its measurement. Installs and runs without Beam and Prefect."""
