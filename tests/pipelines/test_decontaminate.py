"""Rows that hold something of an evaluation set: against comparison one by one, and in whole builds."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.build import build
from pipelines.decontamination.index import NONE, Index, Table, make_index
from pipelines.decontamination.sets import Item, items_of, picture_hash, set_digests
from pipelines.decontamination.texts import ngrams, words
from pipelines.ledger import open_input
from pipelines.verify import verify
from schemas.manifest import Snapshot, load_snapshot
from schemas.reasons import Drop
from schemas.spec import MAX_PIXELS, CorpusSpec, Decontaminate, Operations
from tests.pipelines.world import contents, folder_source, image_folder, picture, spec

LONG = "The quick brown fox jumps over the lazy dog while seven wizards quietly boil a large kettle of soup"


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def index_of(folder: Path, **settings: Any) -> Index:
    index = make_index(Decontaminate(sets={"one": str(folder)}, **settings))
    again = Index.from_bytes(index.to_bytes(), index.settings)
    assert again.names == index.names
    assert again.sha256 == index.sha256
    return again


def texts_index(folder: Path, *texts: str, **settings: Any) -> Index:
    folder.mkdir(exist_ok=True)
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return index_of(folder, **settings)


def held(index: Index, *messages: str) -> str | None:
    found = index.by_text(messages)
    return None if found == NONE else index.names[found]


def test_words_are_the_same_whatever_their_form() -> None:
    assert words("Ｔｈｅ  ﬁrst—STRASSE, 2nd_one!") == ["the", "first", "strasse", "2nd", "one"]
    assert words("Straße") == ["strasse"]
    assert words("图中有猫 cats吗") == ["图", "中", "有", "猫", "cats", "吗"]


def test_runs_of_words_are_equal_only_if_the_words_are() -> None:
    rng = random.Random(0)
    said = [rng.choice("ab") for _ in range(400)]
    hashes = ngrams(said, 5)
    runs = [tuple(said[at : at + 5]) for at in range(396)]
    assert len(set(runs)) == len(set(hashes.tolist())) == 32
    assert all((runs[0] == run) == (hashes[0] == one) for run, one in zip(runs, hashes, strict=True))
    assert len(ngrams(said[:4], 5)) == 0


def test_a_text_is_found_by_thirteen_words_and_not_by_twelve(tmp_path: Path) -> None:
    index = texts_index(tmp_path / "set", "Is it so, that this is of no concern to anyone here at all now?", LONG)
    said = LONG.upper().split()
    assert held(index, "Hello.", "so: " + ",\n".join(said[3:16]) + " end") == "one/texts.jsonl:2"
    assert held(index, "so: " + " ".join(said[3:15]) + " end " + " ".join(said[16:])) is None
    assert held(index, " ".join(said[:7]), " ".join(said[7:])) is None  # two messages


def test_short_texts_are_found_as_whole_messages_and_lines_only(tmp_path: Path) -> None:
    index = texts_index(tmp_path / "set", "a bench", "Is there a car in the image?")
    assert held(index, "is there a car in the image") == "one/texts.jsonl:2"
    assert (
        held(index, "<image_placeholder>\nIs there a car in the image?\nAnswer with one word.") == "one/texts.jsonl:2"
    )
    assert held(index, "Now, is there a car in the image?") is None
    assert held(index, "in the image there is a car") is None
    assert held(index, "a bench") is None
    assert held(texts_index(tmp_path / "set", "a bench", min_words=2), "A bench.") == "one/texts.jsonl:1"


@pytest.mark.parametrize("radius", [0, 1, 4, 7])
def test_near_pictures_are_those_of_comparing_all_with_all(radius: int) -> None:
    rng = np.random.default_rng(radius)
    theirs = rng.integers(0, 2**63, size=60, dtype=np.uint64)
    ours = np.concatenate([theirs, theirs, rng.integers(0, 2**63, size=50, dtype=np.uint64)])
    for at in range(len(ours)):
        for bit in rng.choice(64, size=rng.integers(0, 9), replace=False):
            ours[at] ^= np.uint64(1) << np.uint64(bit)
    empty = Table(np.empty(0, np.uint64), np.empty(0, np.int64))
    table = Table.of(np.concatenate([theirs, theirs]), np.arange(120)[::-1].copy())
    index = Index((), {}, table, empty, empty, Decontaminate(phash_radius=radius))
    expected = []
    for one in ours.tolist():
        close = [59 - at for at, other in enumerate(theirs.tolist()) if (one ^ other).bit_count() <= radius]
        expected.append(min(close, default=NONE))
    assert index.by_phash(ours).tolist() == expected
    assert sum(one != NONE for one in expected) > 3


def test_every_published_layout_is_read(tmp_path: Path) -> None:
    data = jpeg(picture("p"))
    sha256, near = hashlib.sha256(data).digest(), picture_hash(data, MAX_PIXELS)
    text = base64.b64encode(data).decode()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.JPG").write_bytes(data)
    (tmp_path / "mmbench.tsv").write_text(f"index\tquestion\tA\timage\n1\tWhat is it?\tcat\t{text}\n")
    (tmp_path / "pope.json").write_text('{"text": "Is it?", "image": "x.jpg"}\n{"text": "Or not?"}\n')
    (tmp_path / "seed.json").write_text(json.dumps({"question_type": {"a": 1}, "questions": [{"question": "Who?"}]}))
    pq.write_table(pa.table({"image": [{"bytes": data, "path": "x"}], "question": ["Why?"]}), tmp_path / "hub.parquet")
    (tmp_path / "prompts.txt").write_text(f"a photo of a cow\n\n{sha256.hex()}  x.jpg\n{near:016x}\n")
    (tmp_path / "list.jsonl").write_text(json.dumps({"sha256": sha256.hex(), "phash": f"{near:016X}"}))
    (tmp_path / "LICENSE").write_text("not read")
    (tmp_path / "README.txt").write_text("not read")
    assert list(items_of("s", str(tmp_path))) == [
        Item("s/deep/a.JPG", (), sha256, near),
        Item("s/hub.parquet:1", ("Why?",), sha256, near),
        Item("s/list.jsonl:1", (), sha256, near),
        Item("s/mmbench.tsv:1", ("What is it?",), sha256, near),
        Item("s/pope.json:1", ("Is it?",)),
        Item("s/pope.json:2", ("Or not?",)),
        Item("s/prompts.txt:1", ("a photo of a cow",)),
        Item("s/prompts.txt:3", (), sha256),
        Item("s/prompts.txt:4", (), None, near),
        Item("s/seed.json:1", ("Who?",)),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "so"}\n{"text": ', "sets.one: {folder}/a.jsonl:2: not a JSON line"),
        ("a.jsonl", b'{"other": "so"}', "a.jsonl: nothing to compare in it: no row has one of the fields question,"),
        ("a.jsonl", b"3\n", "a.jsonl:1: expected a JSON object, found 3"),
        ("a.json", b"[3]", "a.json:1: expected an object or a text, found int"),
        ("a.jsonl", b'{"sha256": "12"}', "a.jsonl:1: field sha256: expected 64 hex digits, found '12'"),
        ("a.txt", b"\xff\xfe", "a.txt: not UTF-8"),
        ("a.tsv", b"image\n" + b"#" * 200, "a.tsv:1: field image: not base64"),
        ("a.png", b"no", "a.png: not a picture that can be compared: not_an_image"),
        ("a.parquet", b"PAR1", "sets.one: {folder}/a.parquet: not a readable Parquet file"),
        ("a.zip", b"PK", "a.zip: an archive; unpack it first"),
        ("a.txt", b"a bench\n", "nothing to compare in it: no pictures, and all texts are shorter than 5 words"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message.format(folder=tmp_path))) as error:
        make_index(Decontaminate(sets={"one": str(tmp_path)}))
    assert "\n" not in str(error.value)


def test_links_out_of_a_set_and_pipes_are_refused(tmp_path: Path) -> None:
    """A set is a stranger's folder: what lies outside of it is not read, and nothing waits for a pipe."""
    (tmp_path / "secret.txt").write_text("a long enough line of what is no business of theirs")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.txt").symlink_to(tmp_path / "secret.txt")
    for use in (set_digests, lambda sets: make_index(Decontaminate(sets=sets))):
        with pytest.raises(ValueError, match=r"a\.txt is a link that leaves .*set"):
            use({"one": str(folder)})
    (folder / "a.txt").unlink()
    os.mkfifo(folder / "a.txt")
    with pytest.raises(FileNotFoundError, match="no pictures and no"):
        set_digests({"one": str(folder)})
    # A file that the spec itself names is meant.
    (tmp_path / "linked.txt").symlink_to(tmp_path / "secret.txt")
    assert len(set_digests({"one": str(tmp_path / "linked.txt")})) == 1


def test_pictures_without_detail_are_compared_by_their_bytes_alone(tmp_path: Path) -> None:
    grey, blue = Image.new("RGB", (64, 64), "grey"), Image.new("RGB", (64, 64), "blue")
    grey.save(tmp_path / "grey.png")
    index = index_of(tmp_path)
    assert index.by_phash(np.array([picture_hash(jpeg(blue), MAX_PIXELS)], np.uint64)).tolist() == [NONE]
    assert hashlib.sha256((tmp_path / "grey.png").read_bytes()).digest() in index.sha256


def planted(tmp_path: Path, model: Path, **settings: Any) -> tuple[CorpusSpec, Path]:
    """A corpus of which row 3 is a picture of the set, 5 a re-encoded one, 7 has its text, and a spec that says so."""
    folder = image_folder(tmp_path / "photos", list(range(12)))
    bench = tmp_path / "bench"
    (bench / "images").mkdir(parents=True)
    shutil.copy(folder / "3.jpg", bench / "images" / "three.jpg")
    picture(5).resize((96, 80)).save(bench / "images" / "five.png")
    (bench / "questions.jsonl").write_text(json.dumps({"question": LONG}) + "\n")
    lines = (folder / "captions.jsonl").read_text().splitlines()
    lines[7] = json.dumps({"image": "7.jpg", "caption": f"So it is said: {LONG.lower()}."})
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    decontaminate = {"sets": {"bench": str(bench)}, **settings.pop("decontaminate", {})}
    return spec(model, [folder_source(folder)], decontaminate=decontaminate, **settings), bench


def verdicts(corpus: Path, snapshot: Snapshot) -> dict[str, tuple[str | None, str | None, str | None]]:
    """Row to (reason, item, by)."""
    found = {}
    for shard in snapshot.shards:
        tables = [open_input(corpus, shard.upstream[name])[1].table() for name in ("raw", "decision", "contamination")]
        raw, decision, contamination = (table.to_pylist() for table in tables)
        for one, two, three in zip(raw, decision, contamination, strict=True):
            assert one["uid"] == two["uid"] == three["uid"]
            found[one["key"]] = (two["reason"], three["item"], three["by"])
    return found


def test_contaminated_rows_are_dropped_and_told(tmp_path: Path, model: Path) -> None:
    given, bench = planted(tmp_path, model)
    corpus = tmp_path / "corpus"
    snapshot = build(given, corpus, Operations())
    assert snapshot.funnel["photos"] == {"rows": 12, Drop.KEPT: 9, Drop.CONTAMINATED: 3}
    dropped = sorted(found for found in verdicts(corpus, snapshot).values() if found[0])
    assert dropped == [
        ("contaminated", "bench/images/five.png", "phash"),
        ("contaminated", "bench/images/three.jpg", "sha256"),
        ("contaminated", "bench/questions.jsonl:1", "text"),
    ]
    assert snapshot.decontamination == set_digests({"bench": str(bench)})
    assert load_snapshot(corpus) == snapshot
    assert verify(corpus).differences == ()
    before = contents(corpus)
    moved = shutil.move(bench, tmp_path / "elsewhere")
    there = given.model_copy(update={"decontaminate": Decontaminate(sets={"bench": str(moved)})})
    assert build(there, corpus, Operations()) == snapshot
    assert contents(corpus) == before


@pytest.mark.slow
def test_two_workers_find_the_same(tmp_path: Path, model: Path) -> None:
    given, _bench = planted(tmp_path, model)
    one = build(given, tmp_path / "one", Operations())
    assert build(given, tmp_path / "two", Operations(workers=2)) == one
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_changed_set_measures_nothing_again_and_none_leaves_all_as_it_was(tmp_path: Path, model: Path) -> None:
    given, bench = planted(tmp_path, model)
    corpus = tmp_path / "corpus"
    plain = given.model_copy(update={"decontaminate": Decontaminate()})
    first = build(plain, corpus, Operations())
    assert first.decontamination == {}
    assert "decontamination" not in first.model_dump()
    assert first.funnel["photos"][Drop.KEPT] == 12
    second = build(given, corpus, Operations())
    (bench / "questions.jsonl").unlink()
    third = build(given, corpus, Operations())
    assert (second.funnel["photos"][Drop.KEPT], third.funnel["photos"][Drop.KEPT]) == (9, 10)
    assert second.decontamination != third.decontamination
    for one, other in zip(first.shards, third.shards, strict=True):
        same = {name for name, path in one.upstream.items() if other.upstream[name] == path}
        assert same == one.upstream.keys() - {"decision"}


def test_a_contaminated_row_costs_no_clean_row_its_place(tmp_path: Path, model: Path) -> None:
    """It wins over no duplicate, and takes no place among those that `rank` keeps."""
    folder = tmp_path / "photos"
    given, _bench = planted(tmp_path, model, decontaminate={"phash_radius": False})
    shutil.copy(folder / "7.jpg", folder / "copy.jpg")
    with (folder / "captions.jsonl").open("a") as file:
        file.write(json.dumps({"image": "copy.jpg", "caption": "The same picture, its caption is clean."}) + "\n")
    snapshot = build(given, tmp_path / "corpus", Operations())
    assert snapshot.funnel["photos"] == {"rows": 13, Drop.KEPT: 11, Drop.CONTAMINATED: 2}
    # Half of the 13 measured rows have a place, rounded down; clean rows take all six.
    strict = {"caption_length": {"max_chars": 90}, "rank": {"by": "text.chars", "keep": 0.5, "best": "highest"}}
    ranked = given.model_copy(update={"filters": strict})
    assert build(ranked, tmp_path / "ranked", Operations()).funnel["photos"] == {
        "rows": 13,
        Drop.KEPT: 6,
        Drop.CONTAMINATED: 2,  # also the row whose caption is too long
        "score_rank": 5,
    }


def test_all_pictures_of_a_page_are_compared(tmp_path: Path, model: Path) -> None:
    pages, bench = tmp_path / "pages", tmp_path / "bench"
    pages.mkdir()
    bench.mkdir()
    lines = []
    for number in range(3):
        for place in range(2):
            picture((number, place)).save(pages / f"{number}{place}.jpg")
        text = f"Page {number} begins with <image> and goes on with <image>."
        lines.append(json.dumps({"text": text, "images": [f"{number}0.jpg", f"{number}1.jpg"]}))
    (pages / "pages.jsonl").write_text("\n".join(lines) + "\n")
    shutil.copy(pages / "01.jpg", bench)
    picture((1, 1)).resize((96, 80)).save(bench / "second.png")
    source = {"name": "pages", "format": "interleaved", "path": str(pages), "task": "understanding"}
    given = spec(model, [source], decontaminate={"sets": {"bench": str(bench)}})
    snapshot = build(given, tmp_path / "corpus", Operations())
    found = verdicts(tmp_path / "corpus", snapshot)
    assert sorted(one[1:] for one in found.values() if one[0]) == [
        ("bench/01.jpg", "sha256"),
        ("bench/second.png", "phash"),
    ]
    assert snapshot.funnel["pages"] == {"rows": 3, Drop.KEPT: 1, Drop.CONTAMINATED: 2}


def test_a_set_that_is_not_there_stops_the_build_before_it_begins(tmp_path: Path, model: Path) -> None:
    given, bench = planted(tmp_path, model)
    shutil.rmtree(bench)
    with pytest.raises(FileNotFoundError, match=r"decontaminate\.sets\.bench: .*bench: no such file or folder"):
        build(given, tmp_path / "corpus", Operations())
    assert not (tmp_path / "corpus" / "rows").exists()


def test_settings_that_make_no_sense_are_one_line(model: Path) -> None:
    for settings, message in [
        ({"sets": {"A b": "x"}}, "set name 'A b': use lower-case letters"),
        ({"sets": {"a": ""}}, "a: expected a file or folder, found an empty path"),
        ({"phash_radius": True}, "expected a number of bits from 0 to 16, or false"),
        ({"phash_radius": 17}, "less than or equal to 16"),
    ]:
        with pytest.raises(ValueError, match=message):
            Decontaminate.model_validate(settings)


def test_published_questions_are_found_in_what_repeats_them(shared_data: Path) -> None:
    """Real POPE and GenEval files, in conversations as data sets have them; C4 pages hold nothing of them."""
    index = make_index(
        Decontaminate(sets={name: str(shared_data / "benchmarks" / name) for name in ("pope", "geneval")})
    )
    asked = [json.loads(line) for line in (shared_data / "benchmarks/pope/coco_pope_random.json").open()]
    for row in asked[:500]:
        assert str(held(index, f"<image_placeholder>\n{row['text']}\nAnswer yes or no.")).startswith("pope/")
    for line in (shared_data / "benchmarks/geneval/prompts/generation_prompts.txt").read_text().splitlines():
        assert (held(index, line) is not None) == (len(words(line)) >= 5), line
    pages = [json.loads(line)["text"] for line in (shared_data / "text/c4_150.jsonl").open()]
    assert len(pages) == 150
    assert not any(held(index, page) for page in pages)
