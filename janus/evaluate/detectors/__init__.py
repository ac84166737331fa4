"""Detectors: what finds objects in drawn images. One file each, with `load(device)` giving a `geneval.Detector`.

Other packages name theirs as entry points of the group `janus_forge.detectors`; the demo does so with `shapes`.
"""

from schemas.plugins import PluginFolder

DETECTORS = PluginFolder(__name__, "detector")
