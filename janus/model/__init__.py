"""The Janus network, its parts, processors, checkpoint formats and sampling."""
