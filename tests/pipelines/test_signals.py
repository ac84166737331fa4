"""Signals against independent readings of the same bytes, and the one pass that measures them."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import pipelines.row
from pipelines import ledger
from pipelines.build import build
from pipelines.filters import FILTERS
from pipelines.row import SIDE, Row
from pipelines.selection import ALWAYS, select
from pipelines.shardio import ShardReader
from pipelines.signals import SIGNALS, load_signal
from pipelines.signals.caption_score import Model
from pipelines.steps.context import signal_spec
from schemas.manifest import load_snapshot
from schemas.spec import CorpusSpec, Operations, load_spec
from tests.pipelines.world import contents, folder_source, image_folder, picture, spec


def jpeg(seed: object, *size: int, orientation: int = 1) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[274] = orientation
    picture(seed, *size).save(buffer, "JPEG", quality=90, exif=exif)
    return buffer.getvalue()


def row(*images: bytes, texts: tuple[tuple[str, str], ...] = (("caption", "A red fish."),), outcome: str = "ok") -> Row:
    stored = [{"bytes": data, "sha256": hashlib.sha256(data).digest()} for data in images]
    messages = [{"role": role, "text": text} for role, text in texts]
    return Row("understanding", bytes(16), outcome, messages, stored, max_pixels=10**7)


def measured(name: str, of: Row) -> Any:
    return load_signal(name).measure(of)


def test_image_says_what_the_first_one_is_and_that_all_decode() -> None:
    first, second = jpeg(1, 60, 40, orientation=6), jpeg(2)
    assert measured("image", row(first, second)) == {
        "outcome": "ok", "num_images": 2, "width": 40, "height": 60, "format": "JPEG", "mode": "RGB",
        "orientation": 6, "frames": 1, "num_bytes": len(first) + len(second),
        "sha256": hashlib.sha256(hashlib.sha256(first).digest() + hashlib.sha256(second).digest()).digest(),
    }  # fmt: skip
    assert measured("image", row(first))["sha256"] == hashlib.sha256(first).digest()
    assert measured("image", row()) == {"outcome": "ok", "num_images": 0}


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_damaged_image_fails_the_row_wherever_it_stands(damaged: int) -> None:
    images = [jpeg(1), jpeg(2)]
    images[damaged] = images[damaged][:-300]
    assert measured("image", row(*images)) == {"outcome": "bad_image", "num_images": 2}


def test_a_row_that_was_not_downloaded_keeps_its_outcome() -> None:
    assert measured("image", row(b"", outcome="timeout")) == {"outcome": "timeout", "num_images": 1}


def test_text_counts_without_marks_and_blanks() -> None:
    page = row(texts=(("user", "<image>\n Two   words"), ("assistant", "and  three\tmore .")))
    assert measured("text", page) == {"chars": len("Two words and three more ."), "words": 6}
    assert measured("text", row(texts=(("document", " <image> "),))) == {"chars": 0, "words": 0}


def test_language() -> None:
    german = row(texts=(("caption", "Ein roter Fisch schwimmt durch das klare Wasser."),))
    found = measured("language", german)
    assert found["code"] == "de"
    assert found["score"] == round(found["score"], 4) > 0.9
    assert not row(texts=(("caption", "  <image> "),)).has("text")


def test_pictures_are_reduced_by_whole_factors_and_never_below_what_is_asked() -> None:
    one = row(jpeg(1, 1300, 900))
    whole = one.decode(0)
    assert whole.size == (1300, 900), "less than twice the least side: not reduced while decoding"
    assert one.picture(128).size == (186, 129)
    assert one.picture(128, "L").tobytes() == whole.reduce(7).convert("L").tobytes()
    assert one.picture(1000).size == (1300, 900)
    large = row(jpeg(1, 2300, 2100))
    assert large.decode(0).size == (1150, 1050)
    assert min(large.picture(SIDE).size) >= SIDE
    assert row(jpeg(1, 60, 40, orientation=6)).picture(500).size == (40, 60), "upright, and never enlarged"


def test_needs_are_met_by_what_there_is() -> None:
    full, text, failed = row(jpeg(1)), row(texts=(("document", "One."),)), row(b"", outcome="timeout")
    needs: Any = ("images", "header", "picture", "text", "caption")
    assert [need for need in needs if full.has(need)] == [*needs]
    assert [need for need in needs if text.has(need)] == ["images", "text"]
    assert [need for need in needs if failed.has(need)] == ["images", "text", "caption"]


def test_every_signal_of_this_project_loads_and_has_fields() -> None:
    assert {*ALWAYS, "language", "caption_score"} <= {*SIGNALS.names()}
    for name in SIGNALS.names():
        assert SIGNALS.load(name).FIELDS
        assert len(Path(str(SIGNALS.load(name).__file__)).read_text().splitlines()) <= 100


def test_the_guide_names_every_signal_and_filter_with_its_fields_and_options() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "pipelines.md").read_text()
    signals, filters = guide.split("## Signals")[1].split("## What decides over a row")
    for name in SIGNALS.names():
        (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", signals, re.MULTILINE)
        assert re.findall(r"`(\w+)`", row.split(" | ")[0]) == [*SIGNALS.load(name).FIELDS]
    for name in FILTERS.names():
        (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", filters, re.MULTILINE)
        options, reason = row.split(" | ")
        assert {*re.findall(r"`(\w+)`", options)} == {*FILTERS.load(name).Options.model_fields}
        assert reason == f"`{load_filter_reason(name)}`"


def load_filter_reason(name: str) -> str:
    return str(getattr(FILTERS.load(name), "REASON", name))


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Of pictures decoded to be measured, and of what the caption scorer's model was given."""
    found: Counter[str] = Counter()
    decode, forward = pipelines.row.load_reduced, Model.measure

    def counting_decode(data: bytes, **options: Any) -> Any:
        found[hashlib.sha256(data).hexdigest()] += 1
        return decode(data, **options)

    def counting_forward(self: Model, batch: Any) -> Any:
        found[f"batch of {len(batch)}"] += 1
        return forward(self, batch)

    monkeypatch.setattr(pipelines.row, "load_reduced", counting_decode)
    monkeypatch.setattr(Model, "measure", counting_forward)
    return found


def test_one_pass_decodes_every_picture_once_and_fills_batches(
    counts: Counter[str], toy_clip: dict[str, str], model: Path, tmp_path: Path
) -> None:
    photos = image_folder(tmp_path / "photos", list(range(40)))
    for name in (7, 30):
        data = (photos / f"{name}.jpg").read_bytes()
        (photos / f"{name}.jpg").write_bytes(data[:-300])
    settings = spec(model, [folder_source(photos)], shard_rows=40, signals={"caption_score": toy_clip, "language": {}})
    snapshot = build(settings, tmp_path / "c", Operations())
    files = {hashlib.sha256(file.read_bytes()).hexdigest() for file in photos.glob("*.jpg")}
    # 40 rows in chunks of 16, 16 and 8, two of them damaged: three forward passes.
    batches = Counter({name: count for name, count in counts.items() if name.startswith("batch")})
    assert batches.total() == 3
    assert sum(int(name.split()[-1]) * count for name, count in batches.items()) == 38
    assert {name: count for name, count in counts.items() if name not in batches} == dict.fromkeys(files, 1)
    assert snapshot.funnel["photos"]["bad_image"] == 2

    # Another signal: the same pictures are decoded once more for it, and no other is measured.
    counts.clear()
    before = contents(tmp_path / "c")
    settings = spec(
        model, [folder_source(photos)], shard_rows=40, signals={"caption_score": toy_clip | {"precision": "bf16"}}
    )
    build(settings, tmp_path / "c", Operations())
    new = [path for path in contents(tmp_path / "c") if path not in before and path.endswith(".arrow")]
    assert [str(Path(path).parent) for path in new] == ["signals/caption_score/photos"]
    assert {name: count for name, count in counts.items() if not name.startswith("batch")} == dict.fromkeys(files, 1)

    # The damaged rows failed once and for all; the score of such a row is null.
    counts.clear()
    assert build(settings, tmp_path / "c", Operations()) == load_snapshot(tmp_path / "c")
    assert not counts, "nothing left to measure"
    (entry,) = load_snapshot(tmp_path / "c").shards
    scores = ledger.open_input(tmp_path / "c", entry.upstream["signals/caption_score"])
    assert scores[0].counts == {"measured": 38, "not_measured": 2}
    image = ledger.open_input(tmp_path / "c", entry.upstream["signals/image"])[1].table()
    assert [value is None for value in scores[1].table()["cosine"].to_pylist()] == [
        outcome == "bad_image" for outcome in image["outcome"].to_pylist()
    ]


def test_text_alone_is_measured_without_touching_pictures(
    counts: Counter[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = image_folder(tmp_path / "photos", list(range(8)))
    build(spec(model, [folder_source(photos)]), tmp_path / "c", Operations())
    counts.clear()
    read: list[list[str] | None] = []
    batches = ShardReader.batches

    def noting(self: ShardReader, columns: list[str] | None = None) -> Any:
        read.append(columns)
        return batches(self, columns)

    monkeypatch.setattr(ShardReader, "batches", noting)
    build(spec(model, [folder_source(photos)], signals={"language": {}}), tmp_path / "c", Operations())
    assert not counts
    assert read == [["uid", "outcome", "messages"]], "the raw shard, once, and of it no image"


def text_source(root: Path, **settings: Any) -> dict[str, Any]:
    return {"name": "text", "format": "text", "path": str(root), "task": "text"} | settings


def signals_of(corpus_spec: CorpusSpec, source: str) -> list[str]:
    return [signal.name for signal in select(corpus_spec)[source].signals]


def test_what_is_measured(model: Path, toy_clip: dict[str, str], tmp_path: Path) -> None:
    language = {"language": {"keep": ["en"]}}
    sources = [
        folder_source(tmp_path, "plain"),
        folder_source(tmp_path, "own", filters=language),
        folder_source(tmp_path, "less", skip_signals=["caption_score", "phash"]),
        text_source(tmp_path),
    ]
    settings = spec(model, sources, signals={"caption_score": toy_clip})
    assert signals_of(settings, "plain") == [*ALWAYS, "caption_score"]
    assert signals_of(settings, "own") == [*ALWAYS, "caption_score", "language"]
    assert signals_of(settings, "less") == ["image", "text"]
    assert signals_of(settings, "text") == ["image", "text"], "what needs a picture is not measured of texts"
    # A corpus-wide filter does not judge a source that leaves its signal out.
    wide = spec(model, sources, signals={"caption_score": toy_clip}, filters={"caption_score": {"min": 0.1}})
    assert signals_of(wide, "less") == ["image", "text"]


@pytest.mark.parametrize(
    ("settings", "source", "says"),
    [
        (
            {"signals": {"languag": {}}},
            {},
            r"^no signal 'languag' \(did you mean language\?\); there are: aesthetic, caption_score",
        ),
        ({"signals": {"language": {"chars": 3}}}, {}, "^signals.language: no option 'chars'; there are: none$"),
        ({"signals": {"caption_score": {"model": "x"}}}, {}, "^signals.caption_score.pretrained: Field required$"),
        ({}, {"skip_signals": ["image"]}, "^source photos: skip_signals: image cannot be left out$"),
        ({}, {"skip_signals": ["imag"]}, r"^no signal 'imag' \(did you mean image\?\)"),
        (
            {},
            {"skip_signals": ["language"], "filters": {"language": {"keep": ["en"]}}},
            "^filter language reads language.code: skip_signals of source photos has language$",
        ),
        (
            {"filters": {"caption_score": {"min": 0.1}}},
            {},
            "^filter caption_score reads caption_score.cosine: signals.caption_score.model: Field required$",
        ),
        (
            {"filters": {"rank": {"by": "caption_scor.cosine", "keep": 0.5}}},
            {},
            r"^filters.rank: no signal field 'caption_scor.cosine': no signal 'caption_scor' \(did you mean caption",
        ),
        ({"filters": {"size": {"min_sides": 3}}}, {}, r"^filters.size: no option 'min_sides' \(did you mean min_side"),
    ],
)
def test_a_spec_that_cannot_be_measured_is_one_line(
    model: Path, tmp_path: Path, settings: dict[str, Any], source: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says) as error:
        select(spec(model, [folder_source(tmp_path, **source)], **settings))
    assert "\n" not in str(error.value)


def test_a_model_that_is_not_there_is_told_before_anything_is_done(
    model: Path, toy_clip: dict[str, str], tmp_path: Path
) -> None:
    photos = image_folder(tmp_path / "photos", [1])
    settings = spec(
        model, [folder_source(photos)], signals={"caption_score": toy_clip | {"pretrained": "/no/such/file"}}
    )
    with pytest.raises(FileNotFoundError, match=r"^signals.caption_score: pretrained: /no/such/file: no such file$"):
        build(settings, tmp_path / "c", Operations())
    assert not (tmp_path / "c" / "rows").exists()


def test_a_signal_that_reads_itself_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.signals import language, text

    monkeypatch.setattr(text, "READS", ("language",), raising=False)
    monkeypatch.setattr(language, "READS", ("text",), raising=False)
    with pytest.raises(ValueError, match="signals text and language read each other"):
        select(spec(model, [folder_source(tmp_path)]))


def test_versions_and_packages_are_in_a_signals_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.signals import language, text

    before = {name: signal_spec(load_signal(name)) for name in ("text", "language", "phash")}
    monkeypatch.setattr(text, "VERSION", 2)
    monkeypatch.setattr(language, "version", lambda package: "99")
    after = {name: signal_spec(load_signal(name)) for name in before}
    changed = {name for name in before if before[name].key({"raw": "1"}) != after[name].key({"raw": "1"})}
    assert changed == {"text", "language"}
    assert load_signal("text").schema.metadata[b"janus_forge.version"] == b"2"


ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted([*ROOT.glob("flows/corpora/*.toml"), *ROOT.glob("demo/corpora/*.toml"), *ROOT.glob("examples/*.toml")])


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_specs_of_this_project_name_signals_and_filters_that_exist(path: Path) -> None:
    values = dict.fromkeys(re.findall(r"\{(\w+)\}", path.read_text()), "x")
    chosen = select(load_spec(path, values))
    scored = [name for name, one in chosen.items() if "caption_score" in {signal.name for signal in one.signals}]
    assert bool(scored) == ("[signals.caption_score]" in path.read_text())
