"""The data card of an export: README.md, as the Hub shows it. Text from data is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pipelines.funnel import funnels
from schemas.manifest import ShardManifest, Snapshot, spec_path
from schemas.printable import printable
from storage.store import Store

CONFIGS = """configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
"""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$-])")


def data_card(corpus: Store, snapshot: Snapshot, models: dict[str, str]) -> str:
    """What a snapshot is made of, and how, with the day it was written.

    Args:
        models: name to fingerprint of the models that signals were measured and captions written with.
    """
    try:
        spec = json.loads(corpus.read(spec_path(snapshot)))
    except (FileNotFoundError, ValueError):
        spec = {}  # of a corpus that was built before these were kept
    described = {source["name"]: source for source in spec.get("sources", ())}
    lines = ["---", CONFIGS + "---", "", f"# {_escaped(snapshot.corpus)}", ""]
    lines += [f"Snapshot `{snapshot.name}` of stage {snapshot.stage}, {snapshot.rows():,} rows."]
    lines += [f"Exported on {datetime.now(UTC).date()} by Janus Forge.", "", "## Sources", ""]
    sources = [(one, described.get(one.source, {})) for one in funnels(snapshot)]
    lines += _table(
        ("source", "format", "address", "task", "rows", "kept"),
        [
            (one.source, source.get("format", ""), source.get("path", ""), source.get("task", ""), one.rows, one.kept)
            for one, source in sources
        ],
    )
    lost = [(one.source, "dropped", *item) for one, _ in sources for item in one.dropped.items()]
    lost += [(one.source, "failed", *item) for one, _ in sources for item in one.failed.items()]
    lost += [(source, "not taken", *item) for source, counts in snapshot.skipped.items() for item in counts.items()]
    lines += ["", "## What became of the other rows", "", *_table(("source", "", "reason", "rows"), lost)]
    licences = [(name or "none stated", count) for name, count in sorted(snapshot.licences.items())]
    lines += ["", "## Licences", "", *_table(("licence", "rows"), licences)]
    filters = [(one.source, json.dumps(key)) for one, source in sources for key in source.get("filters", ())]
    lines += ["", "## Filters", "", *_table(("source", "filter"), filters)]
    own = snapshot.fingerprints
    models = {"tokenizer": own.tokenizer, "image processor": own.image_processor, "VQ tokenizer": own.vq} | models
    lines += ["", "## Models", "", *_table(("model", "fingerprint"), list(models.items()))]
    return "\n".join(lines) + "\n"


def models_of(manifests: Iterable[ShardManifest]) -> dict[str, str]:
    """Models that signals were measured and captions written with: `<signal>.<model>` to fingerprint."""
    return {
        f"{manifest.layer.rpartition('/')[2]}.{name}": fingerprint
        for manifest in manifests
        for name, fingerprint in sorted(manifest.fingerprints.items())
    }


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    body = [f"| {' | '.join(_escaped(value) for value in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *body] if body else ["None."]


def _escaped(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else _MARKDOWN.sub(r"\\\1", printable(str(value)))
