"""Captions that a model writes: against a real HTTP endpoint that behaves in every wrong way, and real models."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.build import build
from pipelines.captioners import Answer
from pipelines.engine import StepFailed
from pipelines.export.__main__ import Export, export
from pipelines.ledger import open_input
from pipelines.recaption.journal import Journal
from pipelines.removal.entries import Entries
from pipelines.removal.purge import purge
from pipelines.verify import verify
from schemas.manifest import Snapshot
from schemas.reasons import Drop
from schemas.sample import IMAGE_MARK
from schemas.spec import CorpusSpec, Operations
from storage.places import as_store
from tests.pipelines.world import contents, folder_source, image_folder, make_clip, picture, scores_by_hand, spec

Reply = Callable[[dict[str, Any], BaseHTTPRequestHandler], Any]


def said(text: Any, finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]}


class Endpoint:
    """A real server on 127.0.0.1. `reply` gives a status and headers, bytes, or an object to be sent as JSON."""

    def __init__(self, reply: Reply) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.reply = reply

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                self.asked.append(body)
                self.keys.add(handler.headers.get("Authorization"))
                assert handler.path == "/v1/chat/completions"
                answer = self.reply(body, handler)
                if answer is None:
                    return
                status, headers, data = answer if isinstance(answer, tuple) else (200, {}, answer)
                data = data if isinstance(data, bytes) else json.dumps(data).encode()
                with contextlib.suppress(OSError):
                    handler.send_response(status)
                    for name, value in {"Content-Length": str(len(data)), **headers}.items():
                        handler.send_header(name, value)
                    handler.end_headers()
                    handler.wfile.write(data)

            def log_message(handler, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def endpoint() -> Iterator[Callable[[Reply], Endpoint]]:
    made: list[Endpoint] = []

    def make(reply: Reply) -> Endpoint:
        made.append(Endpoint(reply))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


def shown(body: dict[str, Any]) -> Image.Image:
    """The picture in a request."""
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))))


def which(body: dict[str, Any], count: int) -> int:
    """Which of the pictures 0, 1, ... of the world it is."""
    seen = shown(body)
    pictures = [np.asarray(picture(number).convert("RGB").resize(seen.size), dtype=float) for number in range(count)]
    errors = [np.abs(one - np.asarray(seen, dtype=float)).mean() for one in pictures]
    return int(np.argmin(errors))


def corpus_spec(
    model: Path, folder: Path, url: str, share: float = 1.0, *, task: str = "generation", **settings: Any
) -> CorpusSpec:
    options = {"model": "vlm", "url": url, "attempts": 2, "concurrency": 4, **settings.pop("options", {})}
    recaption = {"engine": "openai", "options": options, **settings.pop("recaption", {})}
    source = folder_source(folder, task=task, recaption=share)
    return spec(model, [source], recaption=recaption, dedup={"near_radius": False}, **settings)


def rows(corpus: Path, snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """By key: the recaption layer, the decision, and the caption of raw."""
    found = {}
    for shard in snapshot.shards:
        raw, new, decision = (
            open_input(corpus, shard.upstream[name])[1].table().to_pylist() for name in ("raw", "recaption", "decision")
        )
        for one, two, three in zip(raw, new, decision, strict=True):
            assert one["uid"] == two["uid"] == three["uid"]
            found[one["key"]] = {**two, "dropped": three["reason"], "source": one["messages"][0]["text"]}
    return found


def number_of(key: str) -> int:
    """Of the picture of a row of `image_folder`, whose key is the line of its caption."""
    return int(key.rpartition(":")[2]) - 1


def tokens(corpus: Path, snapshot: Snapshot) -> dict[bytes, list[int]]:
    table = [open_input(corpus, shard.path)[1].table(["uid", "input_ids"]).to_pylist() for shard in snapshot.shards]
    return {row["uid"]: row["input_ids"] for part in table for row in part}


def test_captions_of_a_model_are_trained_on_and_those_of_the_source_stay(
    tmp_path: Path, model: Path, endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM_KEY", "abc")
    folder = image_folder(tmp_path / "photos", list(range(10)))
    server = endpoint(lambda body, _: said(f" Picture {which(body, 10)},\n as the model sees it. "))
    settings: dict[str, Any] = {
        "recaption": {"prompt": "Not <caption> but?", "side": 32},
        "options": {"key_variable": "VLM_KEY"},
    }
    given = corpus_spec(model, folder, server.url, **settings)
    corpus = tmp_path / "corpus"
    snapshot = build(given, corpus, Operations())
    found = rows(corpus, snapshot)
    assert len(found) == 10
    assert snapshot.funnel["photos"] == {"rows": 10, "kept": 10}
    for key, row in found.items():
        number = number_of(key)
        assert row["source"] == f"A picture with the number {number}. It has many colours.", key
        assert row["caption"] == row["messages"][0]["text"] == f"Picture {number}, as the model sees it."
        assert (row["used"], row["reason"]) == (True, None)
    prompts = {body["messages"][0]["content"][1]["text"] for body in server.asked}
    assert prompts == {f"Not {row['source']} but?" for row in found.values()}
    assert {max(shown(body).size) for body in server.asked} == {32}
    assert server.keys == {"Bearer abc"}
    # An export has them, and says that a model wrote them.
    export(Export(str(corpus), "webdataset", tmp_path / "exported"))
    with tarfile.open(tmp_path / "exported" / "data" / "train-00000.tar") as tar:
        texts = {tar.extractfile(name).read().decode() for name in tar.getnames() if name.endswith(".txt")}  # type: ignore[union-attr]
    assert texts == {row["caption"] for row in found.values()}
    assert "| recaption.captioner |" in (tmp_path / "exported" / "README.md").read_text()
    # Nothing of the key is anywhere, and nothing is asked again.
    asked = len(server.asked)
    assert build(given, corpus, Operations()) == snapshot
    assert len(server.asked) == asked == 10
    assert not any(b"Bearer" in file.read_bytes() for file in corpus.rglob("*") if file.is_file())
    # What is trained on are those captions: as if the source had said so.
    for name in range(10):
        (folder / f"{name}.txt").write_text(f"Picture {name}, as the model sees it.")
    (folder / "captions.jsonl").unlink()
    plain = spec(model, [folder_source(folder)], dedup={"near_radius": False})
    other = build(plain, tmp_path / "plain", Operations())
    assert sorted(tokens(corpus, snapshot).values()) == sorted(tokens(tmp_path / "plain", other).values())
    assert verify(corpus).differences == ()


def test_a_purge_takes_the_captions_of_a_model_too(tmp_path: Path, model: Path, endpoint: Any) -> None:
    folder, corpus = image_folder(tmp_path / "photos", list(range(4))), tmp_path / "corpus"
    server = endpoint(lambda body, _: said(f"Written of picture {which(body, 4)} by a model."))
    given = corpus_spec(model, folder, server.url)
    found = rows(corpus, build(given, corpus, Operations()))
    gone = next(row for key, row in found.items() if number_of(key) == 2)
    left = corpus / "answers" / "recaption" / "photos" / "0123.4567.jsonl"
    Journal(left).add(gone["uid"], Answer(gone["caption"]))
    purge(as_store(corpus), Entries(uids=frozenset([gone["uid"]])), lambda _: None)
    assert verify(corpus).differences == ()
    assert not [file for file in corpus.rglob("*") if file.is_file() and b"Written of picture 2" in file.read_bytes()]
    asked, again = len(server.asked), build(given, corpus, Operations())
    assert again.funnel["photos"] == {"rows": 4, "kept": 3, "taken_down": 1}
    assert len(server.asked) == asked
    assert verify(corpus).differences == ()


WRONG: dict[int, tuple[Any, str]] = {
    1: (said(""), Drop.RECAPTION_EMPTY),
    2: (said("... !"), Drop.RECAPTION_EMPTY),
    3: (said("I'm sorry, but I can't help with that."), Drop.RECAPTION_REFUSED),
    4: (said("A dog and " + "a ball and " * 40), Drop.RECAPTION_REPEATED),
    5: (said("A long sentence that never", finish="length"), Drop.RECAPTION_TRUNCATED),
    6: (said("<!DOCTYPE html><html><body>502</body></html>"), Drop.RECAPTION_FAILED),
    7: (b"<html><body>Bad gateway</body></html>", Drop.RECAPTION_FAILED),
    8: ({"choices": []}, Drop.RECAPTION_FAILED),
    9: ({"error": {"message": "no"}}, Drop.RECAPTION_FAILED),
    10: ((500, {}, b"oops"), Drop.RECAPTION_FAILED),
    11: ((429, {"Retry-After": "0"}, b"slow down"), Drop.RECAPTION_FAILED),
    12: ((400, {}, b"this picture not"), Drop.RECAPTION_FAILED),
    13: (said(f"A picture of {IMAGE_MARK} things"), Drop.RECAPTION_FAILED),
    14: (said(["a", "list"]), Drop.RECAPTION_FAILED),
    15: (b"x" * (2 << 20), Drop.RECAPTION_FAILED),
    16: ((200, {"Content-Length": "900"}, b"{"), Drop.RECAPTION_FAILED),
    17: ((302, {"Location": "http://127.0.0.1:1/"}, b""), "stops"),
}


def test_every_wrong_answer_is_a_row_with_its_reason(tmp_path: Path, model: Path, endpoint: Any) -> None:
    count = 20
    folder = image_folder(tmp_path / "photos", list(range(count)))
    tries: Counter[int] = Counter()

    def reply(body: dict[str, Any], handler: BaseHTTPRequestHandler) -> Any:
        number = which(body, count)
        tries[number] += 1
        if number == 18 and tries[18] == 1:
            return 503, {"Retry-After": "0"}, b""
        if number == 19 and tries[19] == 1:
            time.sleep(3)  # longer than it may take
        wrong = WRONG.get(number)
        return said(f"Number {number}.") if wrong is None or number == 17 else wrong[0]

    server = endpoint(reply)
    given = corpus_spec(model, folder, server.url, options={"timeout_s": 1.5}, max_failed_share=0.9)
    snapshot = build(given, tmp_path / "corpus", Operations())
    found = {number_of(key): row for key, row in rows(tmp_path / "corpus", snapshot).items()}
    assert len(found) == count
    for number, row in found.items():
        expected = None if number not in WRONG or number == 17 else str(WRONG[number][1])
        assert (row["reason"], row["dropped"]) == (expected, expected), number
        assert row["caption"] == (None if expected else f"Number {number}."), number
    counts = snapshot.funnel["photos"]
    assert counts.pop("rows") == sum(counts.values()) == count
    assert counts == Counter(str(WRONG[number][1]) if number in WRONG and number != 17 else "kept" for number in found)
    # What may pass is tried again, and what cannot is not.
    assert {number: tries[number] for number in (7, 8, 10, 11, 12, 15, 18, 19)} == {
        7: 2, 8: 1, 10: 2, 11: 2, 12: 1, 15: 2, 18: 2, 19: 2,
    }  # fmt: skip
    assert verify(tmp_path / "corpus").differences == ()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, {}, b""), r"/v1/chat/completions: HTTP 401: is recaption\.options right\?"),
        (WRONG[17][0], r"HTTP 302: is recaption\.options right\?"),
        ((500, {}, b""), r"10 of 10 rows failed \(recaption_failed 10\), more than max_failed_share = 0.4"),
    ],
)
def test_an_endpoint_that_cannot_answer_stops_the_build(
    tmp_path: Path, model: Path, endpoint: Any, reply: Any, message: str
) -> None:
    folder = image_folder(tmp_path / "photos", list(range(10)))
    server = endpoint(lambda body, _: reply)
    given = corpus_spec(model, folder, server.url, options={"attempts": 1}, max_failed_share=0.4, shard_rows=16)
    with pytest.raises(StepFailed, match=message):
        build(given, tmp_path / "corpus", Operations())
    # It is up again: nothing of the outage stays.
    server.reply = lambda body, _: said("At last.")
    assert build(given, tmp_path / "corpus", Operations()).funnel["photos"] == {"rows": 10, "kept": 10}


def test_a_budget_stops_the_build_and_the_next_goes_on(tmp_path: Path, model: Path, endpoint: Any) -> None:
    folder = image_folder(tmp_path / "photos", list(range(10)))
    server = endpoint(lambda body, _: said(f"Number {which(body, 10)}."))
    given = corpus_spec(model, folder, server.url, options={"requests": 6})
    with pytest.raises(StepFailed, match=r"budget of 6 requests .* is used up; the answers are kept, build again"):
        build(given, tmp_path / "corpus", Operations())
    assert len(server.asked) == 6
    snapshot = build(given, tmp_path / "corpus", Operations())
    assert len(server.asked) == 10
    assert snapshot.funnel["photos"]["kept"] == 10
    assert not list((tmp_path / "corpus" / "answers").rglob("*.jsonl"))


def test_a_prompt_a_share_and_a_threshold_each_remake_what_they_must(
    tmp_path: Path, model: Path, endpoint: Any
) -> None:
    folder = image_folder(tmp_path / "photos", list(range(24)))
    server = endpoint(lambda body, _: said(f"Number {which(body, 24)} in words."))
    corpus = tmp_path / "corpus"
    signals = {"sharpness": {}, "text_quality": {}}

    def made(given: CorpusSpec) -> tuple[Snapshot, int, set[str]]:
        before, asked = contents(corpus) if corpus.exists() else {}, len(server.asked)
        snapshot = build(given, corpus, Operations())
        new = {path.split("/")[0] for path in contents(corpus).keys() - before.keys() if path.endswith(".arrow")}
        new |= {"/".join(p.split("/")[:2]) for p in contents(corpus).keys() - before.keys() if p.startswith("signals")}
        return snapshot, len(server.asked) - asked, new - {"signals"}

    first, asked, _ = made(corpus_spec(model, folder, server.url, 0.5, signals=signals))
    taken = {key for key, row in rows(corpus, first).items() if row["used"]}
    assert 4 < len(taken) == asked < 20
    # A greater share asks for the new rows only, and keeps those it had.
    second, asked, new = made(corpus_spec(model, folder, server.url, 1.0, signals=signals))
    assert asked == 24 - len(taken)
    assert all(row["used"] for row in rows(corpus, second).values())
    # Pictures are not measured again because of other words.
    said_of_text = {"signals/text", "signals/text_quality", "signals/language"}
    assert new - said_of_text == {"recaption", "decision", "train"}
    assert new & said_of_text >= {"signals/text", "signals/text_quality"}
    # A threshold asks nothing.
    given = corpus_spec(model, folder, server.url, 1.0, signals=signals, filters={"size": {"min_side": 1}})
    _, asked, new = made(given)
    assert (asked, new) == (0, {"decision"} | (new & {"train"}))
    # Another address neither, and it makes nothing.
    server.asked.clear()
    again = corpus_spec(model, folder, f"{server.url}/", 1.0, signals=signals, filters={"size": {"min_side": 1}})
    assert made(again)[1:] == (0, set())
    # Another prompt asks everyone.
    other = corpus_spec(model, folder, server.url, 1.0, signals=signals, recaption={"prompt": "What is it?"})
    assert made(other)[1] == 24
    assert verify(corpus).differences == ()


def test_the_better_caption_is_taken(tmp_path: Path, model: Path, endpoint: Any) -> None:
    clip = make_clip(tmp_path)
    folder = image_folder(tmp_path / "photos", list(range(12)))
    server = endpoint(lambda body, _: said(hashlib.sha256(str(which(body, 12)).encode()).hexdigest()[:20]))
    given = corpus_spec(
        model, folder, server.url, signals={"caption_score": clip}, recaption={"keep_better": True}, shard_rows=16
    )
    snapshot = build(given, tmp_path / "corpus", Operations())
    found = rows(tmp_path / "corpus", snapshot)
    pictures = [Image.open(folder / f"{number_of(key)}.jpg") for key in found]
    old = scores_by_hand(clip, pictures, [row["source"] for row in found.values()])
    new = scores_by_hand(clip, pictures, [row["caption"] for row in found.values()])
    assert {row["used"] for row in found.values()} == {True, False}
    for row, before, after in zip(found.values(), old, new, strict=True):
        assert (row["source_score"], row["score"]) == pytest.approx((before, after), abs=2e-4)
        assert row["used"] == (row["score"] >= row["source_score"])
        assert row["messages"][0]["text"] == (row["caption"] if row["used"] else row["source"])


@pytest.mark.slow
def test_two_workers_write_the_same_bytes(tmp_path: Path, model: Path, endpoint: Any) -> None:
    folder = image_folder(tmp_path / "photos", list(range(20)))
    server = endpoint(lambda body, _: said(f"Number {which(body, 20)}."))
    given = corpus_spec(model, folder, server.url, 0.7)
    assert build(given, tmp_path / "one", Operations()) == build(given, tmp_path / "two", Operations(workers=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
def test_a_killed_build_asks_for_no_picture_twice(tmp_path: Path, model: Path, endpoint: Any) -> None:
    count = 24
    folder = image_folder(tmp_path / "photos", list(range(count)))
    answered: Counter[int] = Counter()
    lock, killed = threading.Lock(), threading.Event()

    def reply(body: dict[str, Any], handler: BaseHTTPRequestHandler) -> Any:
        number = which(body, count)
        with lock:
            if len(answered) >= 10 and not killed.is_set():
                killed.set()
                os.kill(child.pid, signal.SIGKILL)
                return None
        time.sleep(0.02)
        answered[number] += 1
        return said(f"Number {number}.")

    server = endpoint(reply)
    given = corpus_spec(model, folder, server.url, shard_rows=32, options={"concurrency": 1})
    file = tmp_path / "spec.json"
    file.write_text(given.model_dump_json())
    code = (
        "import sys; from pathlib import Path; from pipelines.build import build; "
        "from schemas.spec import CorpusSpec, Operations; "
        f"given = CorpusSpec.model_validate_json(Path({str(file)!r}).read_text()); "
        f"build(given, {str(tmp_path / 'corpus')!r}, Operations())"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    assert child.wait(120) == -signal.SIGKILL
    (journal,) = (tmp_path / "corpus" / "answers").rglob("*.jsonl")
    kept = Journal(journal).read()
    assert len(kept) >= 9
    with journal.open("ab") as cut:
        cut.write(b'{"uid": "00')  # what a kill can leave of a line
    snapshot = build(given, tmp_path / "corpus", Operations())
    assert snapshot.funnel["photos"] == {"rows": count, "kept": count}
    # At most the one answer that was on its way.
    assert len(answered) == count
    assert sum(answered.values()) <= count + 1
    assert build(given, tmp_path / "whole", Operations()) == snapshot
    assert contents(tmp_path / "whole") == contents(tmp_path / "corpus")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "gpt"}, r"no captioner 'gpt'.*there are: .*openai"),
        ({"options": {"model": "m"}}, r"recaption\.options\.url: Field required"),
        ({"options": {"model": "m", "url": "ftp://x/v1"}}, r"recaption\.options\.url: String should match pattern"),
        (
            {"options": {"model": "m", "url": "http://x/v1", "key_variable": "NO_SUCH"}},
            r"key_variable: .*NO_SUCH is not",
        ),
        (
            {"engine": "transformers", "options": {"model": "/no/where"}},
            r"recaption\.options\.model: /no/where: no such",
        ),
        (
            {"engine": "janus", "options": {"modle": "x"}},
            r"recaption\.options: no option 'modle' \(did you mean model\?\)",
        ),
        ({"keep_better": True}, r"caption_score"),
    ],
)
def test_what_cannot_be_asked_is_told_before_anything_is_done(
    tmp_path: Path, model: Path, change: dict[str, Any], message: str
) -> None:
    folder = image_folder(tmp_path / "photos", [1])
    recaption = {"engine": "openai", "options": {"model": "m", "url": "http://127.0.0.1:1/v1"}, **change}
    given = spec(model, [folder_source(folder, recaption=1.0)], recaption=recaption)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build(given, tmp_path / "corpus", Operations())
    assert not (tmp_path / "corpus" / "rows").exists()


def test_a_spec_that_contradicts_itself_is_one_line(model: Path) -> None:
    source = folder_source(Path("x"), recaption=0.5)
    with pytest.raises(ValueError, match=r"source photos: recaption = \.\.\. wants a table \[recaption\]"):
        spec(model, [source])
    with pytest.raises(ValueError, match=r"recaption: no source asks for it"):
        spec(model, [folder_source(Path("x"))], recaption={"engine": "janus"})
