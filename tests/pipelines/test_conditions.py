"""Conditions over signals, licences, and the columns of a source as signals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines import ledger
from pipelines.build import build
from pipelines.filters import load_filter
from pipelines.row import Row
from pipelines.selection import select
from pipelines.signals import field_type, load_signal
from pipelines.signals.licence import spdx
from schemas.manifest import load_snapshot
from schemas.spec import Operations
from tests.pipelines.world import folder_source, image_folder, spec


def table(**columns: list[Any]) -> pa.Table:
    """Columns by field name, `__` for the dots."""
    names = {name: name.replace("__", ".") for name in columns}
    return pa.table({names[name]: pa.array(values, field_type(names[name])) for name, values in columns.items()})


def dropped(name: str, options: dict[str, Any], signals: pa.Table) -> list[bool]:
    found = load_filter(name, options)
    assert {*found.reads} == {*signals.column_names}
    return [bool(value) for value in found.drops(signals)]


def test_a_float32_score_is_compared_as_it_is_stored() -> None:
    scores = [0.2799, 0.28, 0.29, 0.3, 0.7]
    signals = table(caption_score__cosine=scores)
    for limit in scores:  # all but 0.28 and 0.3 are smaller as float32, or greater, than as float64
        for sign, holds in {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "=": np.equal}.items():
            expected = [not holds(score, limit) for score in scores]
            assert dropped("where", {"keep": f"caption_score.cosine {sign} {limit}"}, signals) == expected
            turned = {">=": "<=", ">": "<", "<=": ">=", "=": "="}[sign]
            assert dropped("where", {"keep": f"{limit} {turned} caption_score.cosine"}, signals) == expected
    keep = "caption_score.cosine in (0.29, 0.7)"
    assert dropped("where", {"keep": keep}, signals) == [True, True, False, True, False]


def test_a_condition_that_hangs_on_a_null_drops_nothing_unless_it_asks_for_the_signal() -> None:
    signals = table(image__width=[600, 600, 100, None], language__code=["en", None, None, "de"])
    keep = "image.width >= 512 and language.code = 'en'"
    assert dropped("where", {"keep": keep}, signals) == [False, False, True, True], "false whatever the other is"
    assert dropped("where", {"keep": f"{keep} and language.code is not null"}, signals) == [False, True, True, True]
    assert dropped("where", {"keep": f"not ({keep})"}, signals) == [True, False, False, False]


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        (
            "image.width >=",
            r"filters.where.keep: condition: expected a number, .* at the end$",
        ),
        (
            "image.widht > 3",
            r"filters.where: no signal field 'image.widht' \(did you mean image.width\?\)",
        ),
        ("width > 3", r"filters.where: no signal field 'width': no signal 'width'"),
        ("image.width > 'x'", r"filters.where: a field of type int32 is compared with 'x'$"),
        ("language.code = 3", r"filters.where: a field of type string is compared with 3$"),
        (
            "image.width > language.code",
            r"filters.where: image.width is int32 and is compared with string$",
        ),
        (
            "image.width.x > 3",
            r"filters.where: no signal field 'image.width.x': it is one value, without keys$",
        ),
        (
            "source_columns.number > 3",
            r"filters.where: no signal field 'source_columns.number': it holds many",
        ),
        ("source_columns.number.scor > 3", r"^filter where reads source_columns.number.scor: no key 'scor' \(did you"),
    ],
)
def test_a_condition_that_cannot_hold_is_one_line(model: Path, tmp_path: Path, keep: str, says: str) -> None:
    source = folder_source(tmp_path, columns=["score"], filters={"where": {"keep": keep}})
    with pytest.raises(ValueError, match=says) as error:
        select(spec(model, [source]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("CC BY-SA 3.0", "CC-BY-SA-3.0"),
        ("cc-by-nc-4.0", "CC-BY-NC-4.0"),
        ("https://creativecommons.org/licenses/by-nc-nd/2.0/", "CC-BY-NC-ND-2.0"),
        ("http://creativecommons.org/licenses/by/3.0/de/deed.en", "CC-BY-3.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("CC0", "CC0-1.0"),
        ("ODC-By", "ODC-By-1.0"),
        ("mit", "MIT"),
        ("MIT or apache-2.0", "MIT OR Apache-2.0"),
        ("CC BY", None),  # of which version?
        ("https://example.org/creativecommons.org/licenses/by/4.0/", None),
        ("all rights reserved", None),
    ],
)
def test_what_is_stated_becomes_an_spdx_name(stated: str, expected: str | None) -> None:
    assert spdx(stated) == expected


def test_an_allow_list_wants_a_licence_and_a_deny_list_does_not() -> None:
    signals = table(licence__spdx=["CC-BY-4.0", "MIT", "CC-BY-NC-4.0", None])
    assert dropped("licence", {"allow": ["cc-by-4.0", "MIT"]}, signals) == [False, False, True, True]
    assert dropped("licence", {"deny": ["CC-BY-NC-4.0"]}, signals) == [False, False, True, False]
    assert dropped("licence", {"allow": ["MIT"], "deny": ["CC-BY-4.0"]}, signals) == [True, False, True, True]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "^filters.licence: set allow, deny or both$"),
        (
            {"deny": ["CC-BY-NC-4.O"]},
            "^filters.licence.deny: Unknown license: 'cc-by-nc-4.o'",
        ),
        ({"allow": []}, "^filters.licence.allow: List should have at least 1 item"),
        ({"allow": ["mit"], "deny": ["MIT"]}, "^filters.licence: MIT is in both allow and deny$"),
    ],
)
def test_a_list_of_licences_with_a_mistake_is_one_line(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_filter("licence", options)


def test_columns_are_numbers_or_text() -> None:
    values = {"score": 5.5, "n": 3, "flag": True, "tag": "t", "hash": 2**60 + 1, "list": [1], "none": None}
    row = Row("text", bytes(16), "ok", [], (), 1, columns={name: json.dumps(value) for name, value in values.items()})
    assert load_signal("source_columns").measure(row) == {
        "number": {"score": 5.5, "n": 3.0, "flag": 1.0},
        "text": {"tag": "t", "hash": "1152921504606846977", "list": "[1]"},
    }


def test_licences_and_columns_of_a_source_decide_over_its_rows(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", list(range(6)))
    lines = [json.loads(line) for line in (photos / "captions.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line |= {"my score": number + 0.5, "tag": "cat" if number % 2 else None}
    (photos / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    columns = ["my score", "tag"]

    def corpus_spec(**filters: Any) -> Any:
        source = folder_source(photos, columns=columns, licence="CC BY 4.0", allow_empty=True, filters=filters)
        other = folder_source(image_folder(tmp_path / "other", [7, 8]), "other", filters={"licence": {"deny": ["MIT"]}})
        return spec(model, [source, other])

    keep = "source_columns.number.'my score' >= 2.5 and source_columns.text.tag = 'cat'"
    snapshot = build(corpus_spec(where={"keep": keep}), tmp_path / "c", Operations())
    # Rows 0 to 5 score 0.5 to 5.5; 0, 1 and 2 (no tag: unknown) ...
    assert snapshot.funnel["photos"] == {"rows": 6, "condition": 2, "kept": 4}
    assert snapshot.funnel["other"] == {"rows": 2, "kept": 2}
    (entry,) = (entry for entry in load_snapshot(tmp_path / "c").shards if entry.source == "photos")
    signal = ledger.open_input(tmp_path / "c", entry.upstream["signals/source_columns"])[1].table()
    assert sorted(dict(row)["my score"] for row in signal["number"].to_pylist()) == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]

    measured = {path for path in (tmp_path / "c" / "signals").rglob("*.arrow")}
    again = build(
        corpus_spec(
            where={"keep": keep.replace("2.5", "4")},
            licence={"allow": ["CC-BY-NC-4.0"]},
            rank={"by": "source_columns.number.my score", "keep": 0.5},
        ),
        tmp_path / "c",
        Operations(),
    )
    assert again.funnel["photos"] == {"rows": 6, "condition": 4, "licence": 2, "kept": 0}
    new = {path for path in (tmp_path / "c" / "signals").rglob("*.arrow")} - measured
    assert {path.parent.parent.name for path in new} == {"licence"}, "another threshold measures nothing again"
