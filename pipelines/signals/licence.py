"""The licence that a source states for a row, and its SPDX name."""

from __future__ import annotations

import re
from importlib.metadata import version

import pyarrow as pa
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from pipelines.row import Row
from pipelines.signals import Options, Values

VERSION = 1
FIELDS = {
    "stated": pa.string(),  # as the source has it, blanks collapsed
    "spdx": pa.string(),  # null where it is none that SPDX knows
}
NEEDS = ("licence",)

_ADDRESS = re.compile(r"https?://(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)/(\d\.\d).*", re.I)
_CREATIVE_COMMONS = re.compile(r"CC[ -]?(BY(?:[ -](?:NC|SA|ND))*|0|ZERO|PDM)(?:[ -]v?(\d\.\d))?", re.I)
_SHORT = {"odc-by": "ODC-By-1.0", "odbl": "ODbL-1.0", "apache 2.0": "Apache-2.0", "public domain mark": "CC-PDM-1.0"}


def fingerprint(options: Options) -> dict[str, str]:
    """The list of SPDX comes with its package."""
    return {"packaging": version("packaging")}


def measure(row: Row) -> Values:
    """Read the row's licence."""
    stated = " ".join((row.licence or "").split())
    return {"stated": stated, "spdx": spdx(stated)} if stated else {}


def spdx(stated: str) -> str | None:
    """The SPDX expression that `stated` means: itself, or an address or a usual name of a Creative Commons licence."""
    name = _SHORT.get(stated.lower(), stated)
    if address := _ADDRESS.fullmatch(name):
        licence, number = address.groups()
        name = f"CC {'PDM' if licence.lower() == 'mark' else licence} {number}"
    if match := _CREATIVE_COMMONS.fullmatch(name):
        kind, number = match[1].upper().replace(" ", "-"), match[2]
        name = f"CC0-{number or '1.0'}" if kind in ("0", "ZERO") else f"CC-{kind}-{number}"
    try:
        return str(canonicalize_license_expression(name))
    except InvalidLicenseExpression:
        return None
