"""Every test and file that the documents name as showing a promise is there."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY
from tests.fetch.behaviours import ROUTES

SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "tests").rglob("*.py")))


@pytest.mark.parametrize("document", ["docs/threat-model.md", "SECURITY.md"])
def test_what_shows_a_promise_is_there(document: str) -> None:
    named = re.findall(r"`([^`\n]+)`", (REPOSITORY / document).read_text(encoding="utf-8"))
    files = [name for name in named if re.fullmatch(r"(tests|pipelines|fuzz|schemas|storage|janus)/[\w/.]*", name)]
    tests = [name for name in named if re.fullmatch(r"test_\w+", name)]
    assert [name for name in files if not (REPOSITORY / name).exists()] == []
    assert [name for name in tests if f"def {name}(" not in SOURCES] == []
    if document.startswith("docs"):
        assert len(files) > 20
        assert len(tests) > 8
        prefix = "redirect-"
        assert f"`{prefix}*`" in (REPOSITORY / document).read_text(encoding="utf-8")
        assert sum(place.startswith(f"/{prefix}") for place in ROUTES) > 5
