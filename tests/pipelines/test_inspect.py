"""`inspect` shows rows, reasons and thresholds, and nothing that a caption says runs."""

from __future__ import annotations

import html.parser
import io
import json
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import inspect
from pipelines.build import build
from pipelines.filters import load_filter
from pipelines.looking.rows import look, wanted
from pipelines.looking.snapshots import find_snapshot
from pipelines.looking.thresholds import bounds, fields_of_reason, kept, others, thresholds
from pipelines.selection import select
from schemas.spec import CorpusSpec, Operations
from storage.places import as_store
from tests.pipelines.test_changes import captions, write
from tests.pipelines.world import image_folder, picture

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \u202egnp.exe \x1b[31m &amp; 'q' \"q\""
TOML = """
name = "test"
stage = 2
models = {{ janus = "{{model}}" }}
filters = {{ size = {{ min_side = 36 }}, entropy = {{ min = 1.5 }} }}
shard_rows = 8
[signals.sharpness]
[signals.language]
[[sources]]
name = "photos"
format = "image_folder"
path = "{photos}"
task = "generation"
"""


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty photos, one too small, one flat, a copy, a near copy, one that is gone, one with a hostile caption."""
    root = tmp_path_factory.mktemp("inspect")
    photos = image_folder(root / "photos", list(range(20)))
    picture("small", 40, 34).save(photos / "small.jpg", quality=90)
    shutil.copy(photos / "3.jpg", photos / "copy.jpg")
    picture(4).save(photos / "near.jpg", quality=60)
    picture("flat").point(lambda value: 90).save(photos / "flat.jpg", quality=90)
    texts = dict.fromkeys(["small.jpg", "copy.jpg", "near.jpg", "flat.jpg", "gone.jpg"], "More words about a picture.")
    write(photos, captions(photos) | texts | {"7.jpg": HOSTILE, "small.jpg": HOSTILE})
    (root / "spec.toml").write_text(TOML.format(photos=photos))
    build(spec_of(root, model), root / "corpus", Operations())
    return root


def spec_of(root: Path, model: Path) -> CorpusSpec:
    from schemas.spec import load_spec

    return load_spec(root / "spec.toml", {"model": str(model)})


FATES = {"kept": 20, "duplicate_exact": 1, "duplicate_near": 1, "too_small": 1, "entropy": 1, "missing_file": 1}


def test_rows_are_counted_and_picked_by_uid(made: Path) -> None:
    store = as_store(made / "corpus")
    snapshot = find_snapshot(store)
    found = look(store, snapshot, wanted(snapshot, None, None, None), 5)
    assert dict(found.counts) == FATES
    uids = sorted(row["uid"] for row in found.sample.to_pylist() if row["fate"] == "kept")
    assert [row["uid"] for row in found.shown["kept"].to_pylist()] == uids[:5]
    assert {fate: table.num_rows for fate, table in found.shown.items()} == {**FATES, "kept": 5}


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("image.width < 48", 1),
        ("image.width >= 48 and fate = 'kept'", 20),
        ("fate in ('too_small', 'entropy')", 2),
        ("entropy.bits < 1.5 or image.height < 36", 2),
        ("sharpness.variance is null", 1),
        ("caption_score.cosine < 0.3", 0),
        ("not (language.score > 2) and source = 'photos'", 25),
        ("text.words > 1e9", 0),
    ],
)
def test_where_looks_at_signals(made: Path, where: str, rows: int) -> None:
    store = as_store(made / "corpus")
    snapshot = find_snapshot(store)
    assert look(store, snapshot, wanted(snapshot, None, None, where), 5).rows == rows


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--where", "image.widht < 4"],
            "no signal field 'image.widht' (did you mean image.width?)",
        ),
        (["--where", "image.width <"], "--where: condition: expected a number"),
        (["--where", "image.width < 'a'"], "--where: a field of type int32 is compared with 'a'"),
        (["--reason", "too_smal"], "--reason too_smal: no row (did you mean too_small?)"),
        (["--source", "photo"], "--source photo: no such source (did you mean photos?)"),
        (["--snapshot", "9"], "does not name one snapshot"),
        (["--rows", "0"], "--rows 0: expected 1 to 500"),
        (["--set", "a=1"], "--set: without --spec"),
        (["--where", "text.words > 1e9"], "no such row"),
    ],
)
def test_mistakes_are_one_line(made: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], says: str) -> None:
    monkeypatch.setattr(sys, "argv", ["inspect", str(made / "corpus"), *options])
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        inspect.main()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


class Elements(html.parser.HTMLParser):
    """Every element of a page with its attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(made: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    out = made / "page.html"
    monkeypatch.setattr(sys, "argv", ["inspect", str(made / "corpus"), "--html", str(out), *options])
    assert inspect.main() == 0
    return out.read_text()


def test_a_page_shows_rows_signals_thresholds_and_winners(
    made: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_of(made, monkeypatch, "--spec", str(made / "spec.toml"), "--set", f"model={model}")
    elements = Elements(page)
    pictures = [attributes for tag, attributes in elements.found if tag == "img"]
    assert len(pictures) == 20 + 2 * 2 + 2  # winners beside losers; the missing one has none
    assert all(
        (image["src"] or "").startswith("data:image/jpeg;base64,") and image["loading"] == "lazy" for image in pictures
    )
    for fate in FATES:
        assert any(attributes.get("id") == f"fate-{fate}" for _, attributes in elements.found)
    assert "at least 36 (size, photos) keeps 23 of 24 rows (95.8%)" in elements.text
    assert "at least 1.5 (entropy, photos) keeps 23 of 24 rows (95.8%)" in elements.text
    assert page.count('class="mark"') == 3  # width, height, entropy
    assert "entropy.bits" in elements.text
    assert elements.text.count("stays") >= 4
    assert page == page_of(made, monkeypatch, "--spec", str(made / "spec.toml"), "--set", f"model={model}")
    near = Elements(page_of(made, monkeypatch, "--reason", "duplicate_near"))
    assert len([tag for tag, _ in near.found if tag == "img"]) == 2
    assert "Rows with reason duplicate_near: 1 of 25" in near.text


def test_no_caption_is_more_than_text(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(made, monkeypatch)
    elements = Elements(page)
    assert elements.text.count("<script>alert(1)</script>") == 2, "it is there to be read"
    assert not {"script", "iframe", "object", "link", "form"} & {tag for tag, _ in elements.found}
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert not {"\u202e", "\x1b"} & set(page)
    assert 'content="default-src &#x27;none&#x27;' in page or "content=\"default-src 'none'" in page
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page), "nothing is fetched"


def test_the_terminal_shows_a_table(
    made: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = ["--rows", "2", "--spec", str(made / "spec.toml"), "--set", f"model={model}"]
    monkeypatch.setattr(sys, "argv", ["inspect", str(made / "corpus"), *options])
    assert inspect.main() == 0
    shown = capsys.readouterr().out
    assert "25 rows" in shown
    assert "image.width: at least 36 (size, photos) keeps" in shown
    assert "kept: 2 of 20 rows shown" in shown
    assert "image.width 40, image.height 34" in shown
    assert not {"\u202e", "\x1b"} & set(shown)


def test_the_spec_takes_the_variables_of_the_workspace(
    made: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "janus-forge.toml").write_text(f"variables = {{ model = '{model}' }}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["inspect", str(made / "corpus"), "--spec", str(made / "spec.toml")])
    assert inspect.main() == 0
    assert "at least 36 (size, photos) keeps" in capsys.readouterr().out


def test_thresholds_of_filters_are_those_they_apply(made: Path, model: Path) -> None:
    for name, options, expected in (
        ("size", {"min_side": 64}, {"image.width": (64, np.inf), "image.height": (64, np.inf)}),
        ("entropy", {"min": 1, "max": 7}, {"entropy.bits": (1, 7)}),
        ("caption_length", {"min_words": 3, "max_chars": 9}, {"text.words": (3, np.inf), "text.chars": (-np.inf, 9)}),
        ("pii", {"max_emails": 0}, {"pii.emails": (-np.inf, 0)}),
        ("aspect_ratio", {"max": 3.0}, {}),
        ("language", {"keep": ["en"], "min_score": 0.5}, {}),
        ("caption_score", {"min": 0.28}, {"caption_score.cosine": (0.28, np.inf)}),
    ):
        assert bounds(load_filter(name, options)) == expected, name
    rules = bounds(load_filter("text_quality", {"rules": ["c4"]}))
    assert rules["text_quality.c4_placeholder"] == (0, 0)
    assert fields_of_reason("too_small") == ("image.width", "image.height")
    assert fields_of_reason("duplicate_near") == ()
    found = thresholds({name: one.filters for name, one in select(spec_of(made, model)).items()})
    assert [one.text for one in found] == [
        "at least 36 (size, photos)", "at least 36 (size, photos)", "at least 1.5 (entropy, photos)",
    ]  # fmt: skip
    values = np.arange(100.0)
    assert kept(values, 10, 19) == 10
    for share, least, most in others(values):
        assert abs(kept(values, least, np.inf) - 100 * share) <= 1
        assert abs(kept(values, -np.inf, most) - 100 * share) <= 1


def large_corpus(root: Path, model: Path, rows: int) -> Path:
    """A corpus of so many tiny pictures of all fates."""
    photos = root / "photos"
    photos.mkdir(parents=True)
    lines: list[dict[str, Any]] = []
    dice = random.Random(0)
    for number in range(rows):
        seed = number if number % 20 else max(0, number - 1)  # each twentieth is close to the one before
        side = dice.choice([(48, 40)] * 9 + [(40, 32)])
        file = io.BytesIO()
        picture(seed, *side).save(file, "JPEG", quality=90 if number % 20 else 60)
        (photos / f"{number}.jpg").write_bytes(file.getvalue() if number % 50 != 7 else file.getvalue()[:300])
        words = " ".join(
            dice.choices(["harbour", "red", "of", "the", "with", "two", "old", "boats"], k=dice.randint(1, 60))
        )
        lines.append({"image": f"{number}.jpg", "caption": f"{HOSTILE if number % 99 == 0 else 'A'} {words}."})
    (photos / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (root / "spec.toml").write_text(TOML.format(photos=photos).replace("shard_rows = 8", "shard_rows = 2048"))
    build(spec_of(root, model), root / "corpus", Operations(workers=2))
    return root


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_page_of_twenty_thousand_rows_is_small_and_opens(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CHROMIUM is not None
    root = large_corpus(tmp_path, model, 20_000)
    page = page_of(root, monkeypatch, "--spec", str(root / "spec.toml"), "--set", f"model={model}")
    assert len(page) < 5_000_000
    for width in (400, 1280):
        shot = tmp_path / f"{width}.png"
        options = [
            "--headless",
            "--no-sandbox",
            "--hide-scrollbars",
            f"--window-size={width},900",
            f"--screenshot={shot}",
        ]
        start = time.monotonic()
        done = subprocess.run([CHROMIUM, *options, f"file://{root}/page.html"], capture_output=True, check=False)
        print(f"{width} px: {time.monotonic() - start:.1f} s with the start of Chromium, {len(page):,} bytes")
        assert done.returncode == 0
        assert shot.stat().st_size > 20_000
