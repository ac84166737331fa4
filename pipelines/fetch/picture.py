"""Whether bytes are a picture that may be taken: the last check, the same for both engines and for local files."""

from __future__ import annotations

from janus.image_rights import picture_reserved
from janus.images import inspect
from schemas.spec import Limits


def check_picture(data: bytes, limits: Limits) -> str | None:
    """What in the picture reserves it from us, None if nothing does or opt-outs are left to the caller.

    Raises ImageProblem if it is no image within the limits, from its header.
    """
    inspect(data, max_pixels=limits.max_pixels)
    return picture_reserved(data) if limits.respect_opt_out else None
