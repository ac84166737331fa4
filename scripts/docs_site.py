"""Hooks of `make docs`: pages that stand outside docs/, and the reference of the public modules (mkdocs.yml)."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {
    "README.md": "index.md",
    "README.zh-CN.md": "index.zh-CN.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
"""File of the checkout to page of the site. The tables of benchmarks/*.md keep their names."""
REFERENCE = {
    "schemas": ["spec", "sample", "manifest", "layers", "reasons", "plugins"],
    "pipelines": ["build", "verify", "signals", "filters"],
    "janus.model": ["network", "processor", "templates", "presets", "checkpoints.model_folder"],
    "janus.data": ["loader", "order", "pack", "mixture"],
    "janus.train": ["recipe", "presets", "loop"],
    "janus.evaluate": ["benchmark", "extract"],
}
"""What people call from Python, by package."""
LINK = re.compile(r"(\]\()([^)#:\s]+)([)#])")


def pages() -> dict[str, str]:
    """Path in the checkout to page of the site, for pages outside docs/ that there are."""
    found = {path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"))}
    return {name: OUTSIDE.get(name, name) for name in sorted(found)}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/ and the reference."""
    for name, page in pages().items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    for package, modules in REFERENCE.items():
        lines = [f"# {package}", *(f"::: {package}.{module}" for module in modules)]
        files.append(File.generated(config, f"reference/{package}.md", content="\n\n".join(lines) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages of the site; a link to a file that is no page becomes its name in code letters."""
    here = page.file.src_uri
    home = {target: name for name, target in pages().items()}.get(here, f"docs/{here}")

    def rewrite(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(home), match.group(2)))
        if target in pages():
            target = pages()[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        if files.get_file_from_path(target) is None:
            return match.group(0)
        return match.group(1) + posixpath.relpath(target, posixpath.dirname(here) or ".") + match.group(3)

    markdown = LINK.sub(rewrite, markdown)
    return re.sub(r"\[([^\]]+)\]\((?![a-z]+:|#)([^)]+)\)", lambda m: _keep(m, here, files), markdown)


def _keep(match: re.Match[str], here: str, files: Files) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match.group(2).split("#")[0]))
    if files.get_file_from_path(target) is not None:
        return match.group(0)
    if (ROOT / target).exists() or (ROOT / "docs" / target).exists():
        return f"`{match.group(1)}`"
    return match.group(0)
