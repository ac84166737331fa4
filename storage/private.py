"""Folders and files that no other user of the machine can have put there or changed.

A cache lies where other accounts may be able to write: /tmp, or a scratch disk that all share. What is remembered there
is believed only where the account itself, and nobody else, may write.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

OTHERS = stat.S_IWGRP | stat.S_IWOTH
"""Permissions that let others write."""


def private_folder(folder: Path) -> Path:
    """The folder, made if absent, in which only this account writes from now on: others lose the permission.

    Raises PermissionError with one line if it is another account's, or reached by another account's link.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for found in (folder.lstat(), folder.stat()):
        # A link of the system's to a folder of ours (/var/tmp, say) is the system's word.
        if found.st_uid != os.geteuid() and not (stat.S_ISLNK(found.st_mode) and found.st_uid == 0):
            raise PermissionError(
                f"{folder}: belongs to another user of this machine (uid {found.st_uid}); name a folder of your own in "
                "JANUS_FORGE_CACHE"
            )
    if found.st_mode & OTHERS:
        folder.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
    return folder


def is_private(found: os.stat_result) -> bool:
    """Whether that is a plain file of this account that nobody else may write."""
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & OTHERS


def open_private(path: Path, mode: str) -> Any:
    """Open a file, which is made for this account alone, whatever the umask. A link is not followed."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600))
