"""Writes the world to disk in the layouts of real sources, some of it damaged on purpose (docs/shapes.md).

imagenet/<wnid>/*.JPEG, classes.tsv      class folders: one object each
captions/urls.jsonl                      web captions; the images lie in http/ and are fetched over HTTP
http/images/*.jpg                        document root for http://shapes.test
sharegpt4v/captions.json, images/        detailed captions
instruct/instruct.json, images/          LLaVA conversations: yes/no, multiple choice, counting
interleaved/docs.jsonl, images/          documents that mix text and images
text/documents.jsonl                     plain text
chat/chat.jsonl                          text-only conversations
heldout/                                 scenes, questions and prompts that training never sees
truth.jsonl                              what was damaged, a line per damaged row
world.json                               what this world was made from, written last
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from demo.dependencies import Checkout
from demo.world import heldout
from demo.world.dice import Dice
from demo.world.draw import draw
from demo.world.language import caption, class_name, dense_caption
from demo.world.questions import Question, talk
from demo.world.scene import PAIRS, Scene, make_scene
from demo.world.texts import conversation, document
from janus.model.templates import DESCRIBE
from schemas.digest import digest
from schemas.files import atomic_folder

HOST = "http://shapes.test"
"""Where the captions source says its images are. A build resolves it to a local server (Operations.resolve)."""

SHARES = {
    "imagenet": 0.2,
    "captions": 0.35,
    "sharegpt4v": 0.15,
    "instruct": 0.3,
    "interleaved": 0.05,
    "text": 0.3,
    "chat": 0.05,
}
"""Rows of each source per scene asked for."""
DAMAGE = {
    "wrong_caption": 0.10,
    "exact_duplicate": 0.03,
    "near_duplicate": 0.03,
    "corrupt": 0.02,
    "tiny": 0.02,
    "dead_link": 0.02,
}
"""Share of the captions source's rows damaged in each way."""
TURNS = 6
"""Questions per instruct conversation."""


@dataclass(frozen=True)
class WorldConfig:
    """What a world is a pure function of, beside the code."""

    scenes: int = 8000
    """Training scenes, roughly: see SHARES."""
    seed: int = 0
    heldout: int = 300
    """Held-out scenes for questions, and about as many novel ones."""


def world_digest(config: WorldConfig) -> str:
    """Names the world that this code makes from `config`."""
    return digest({"code": Checkout().code_digest(__name__), "config": asdict(config)})


def write_world(out: Path, config: WorldConfig) -> bool:
    """Write the world to the folder `out`, unless it is there already. Returns whether it was written.

    The folder appears whole or not at all. Raises ValueError if `out` holds anything but a world.
    """
    made_from = {"digest": world_digest(config), "config": asdict(config)}
    marker = out / "world.json"
    if marker.is_file() and json.loads(marker.read_text()) == made_from:
        return False
    if out.exists() and not marker.is_file() and any(out.iterdir()):
        raise ValueError(f"{out}: not empty and not a shapes world; give another --out")
    with atomic_folder(out, durable=False) as unfinished:
        _Writer(unfinished, config).write()
        (unfinished / "world.json").write_text(json.dumps(made_from))
    return True


def jpeg(scene: Scene, quality: int = 95) -> bytes:
    """The picture of `scene` as JPEG bytes, colours at full resolution."""
    buffer = io.BytesIO()
    Image.fromarray(draw(scene)).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


class _Writer:
    """Writes one world. Sources use disjoint scene numbers, so no scene is drawn twice by index."""

    def __init__(self, root: Path, config: WorldConfig) -> None:
        self.root = root
        self.config = config
        self.first: dict[str, int] = {}
        start = 0
        for source, share in SHARES.items():
            self.first[source] = start
            start += round(config.scenes * share)

    def write(self) -> None:
        self._imagenet()
        self._captions()
        self._described()
        self._instruct()
        self._interleaved()
        self._jsonl("text/documents.jsonl", ({"text": document(s, d)} for _, s, d in self._rows("text")))
        self._jsonl("chat/chat.jsonl", ({"messages": _openai(conversation(s, d))} for _, s, d in self._rows("chat")))
        heldout.write(self.root / "heldout", self.config.seed, self.config.heldout)

    def _rows(self, source: str, kind: Any = None) -> Iterator[tuple[int, Scene, Dice]]:
        """Row number, scene and dice of every row of `source`."""
        for row in range(round(self.config.scenes * SHARES[source])):
            index = self.first[source] + row
            yield row, make_scene(self.config.seed, "train", index, kind), Dice(source, self.config.seed, index)

    def _imagenet(self) -> None:
        wnids = {pair: f"n9{index:07d}" for index, pair in enumerate(PAIRS)}
        for row, scene, _ in self._rows("imagenet", "single"):
            wnid = wnids[scene.objects[0].pair]
            self._file(f"imagenet/{wnid}/{wnid}_{row}.JPEG", jpeg(scene))
        names = "".join(f"{wnid}\t{class_name(pair)}\n" for pair, wnid in wnids.items())
        self._file("imagenet/classes.tsv", names.encode())

    def _captions(self) -> None:
        """The damaged source: what is wrong with which row goes to truth.jsonl."""
        rows: list[dict[str, str]] = []
        truth: list[dict[str, Any]] = []
        pictures: list[tuple[str, Scene]] = []
        for row, scene, dice in self._rows("captions"):
            name, text, data = f"{row:06d}.jpg", caption(scene, dice), jpeg(scene)
            damage = self._damage(dice) if row else None  # the first row is what others duplicate
            entry: dict[str, Any] = {"source": "captions", "url": f"{HOST}/images/{name}", "damage": damage}
            if damage == "wrong_caption":
                text = self._wrong_caption(scene, dice)
            elif damage in ("exact_duplicate", "near_duplicate"):
                original, whole = dice.choice(pictures)
                text = caption(whole, dice)
                data = jpeg(whole, 95 if damage == "exact_duplicate" else 60)
                entry["of"] = f"{HOST}/images/{original}"
            elif damage == "corrupt":
                data = data[: len(data) // 3]
            elif damage == "tiny":
                data = _tiny(scene)
            if damage is None:
                pictures.append((name, scene))
            else:
                truth.append(entry)
            if damage != "dead_link":
                self._file(f"http/images/{name}", data)
            rows.append({"url": entry["url"], "caption": text, "licence": "CC0-1.0"})
        self._jsonl("captions/urls.jsonl", rows)
        self._jsonl("truth.jsonl", truth)

    def _damage(self, dice: Dice) -> str | None:
        roll = dice.below(10_000) / 10_000
        for name, share in DAMAGE.items():
            if roll < share:
                return name
            roll -= share
        return None

    def _wrong_caption(self, scene: Scene, dice: Dice) -> str:
        """The caption of a scene that has no colour-shape pair in common with `scene`."""
        present = {item.pair for item in scene.objects}
        while True:
            other = make_scene(self.config.seed, "train", dice.below(1 << 30))
            if present.isdisjoint(item.pair for item in other.objects):
                return dense_caption(other, dice)

    def _described(self) -> None:
        records = []
        for row, scene, dice in self._rows("sharegpt4v"):
            name = f"images/{row:06d}.jpg"
            self._file(f"sharegpt4v/{name}", jpeg(scene))
            turns = [Question(DESCRIBE, dense_caption(scene, dice))]
            records.append({"id": f"{row:06d}", "image": name, "conversations": _llava(turns)})
        self._file("sharegpt4v/captions.json", json.dumps(records, indent=1).encode())

    def _instruct(self) -> None:
        records = []
        for row, scene, dice in self._rows("instruct"):
            name = f"images/{row:06d}.jpg"
            self._file(f"instruct/{name}", jpeg(scene))
            records.append({"id": f"{row:06d}", "image": name, "conversations": _llava(talk(scene, dice, TURNS))})
        self._file("instruct/instruct.json", json.dumps(records, indent=1).encode())

    def _interleaved(self) -> None:
        documents = []
        for row, scene, dice in self._rows("interleaved"):
            other = make_scene(self.config.seed, "train", (1 << 31) + row)
            names = [f"images/{row:06d}-{part}.jpg" for part in "ab"]
            for name, picture in zip(names, (scene, other), strict=True):
                self._file(f"interleaved/{name}", jpeg(picture))
            text = f"<image>{dense_caption(scene, dice)} <image>{dense_caption(other, dice)}"
            documents.append({"text": text, "images": names})
        self._jsonl("interleaved/docs.jsonl", documents)

    def _file(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def _jsonl(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        self._file(name, "".join(f"{json.dumps(row)}\n" for row in rows).encode())


def _llava(questions: list[Question]) -> list[dict[str, str]]:
    """LLaVA's conversation layout: the image's mark stands before the first question."""
    turns = []
    for index, question in enumerate(questions):
        turns.append({"from": "human", "value": question.text if index else f"<image>\n{question.text}"})
        turns.append({"from": "gpt", "value": question.answer})
    return turns


def _openai(questions: list[Question]) -> list[dict[str, str]]:
    """The messages layout of text chats."""
    roles = [[{"role": "user", "content": q.text}, {"role": "assistant", "content": q.answer}] for q in questions]
    return [message for turn in roles for message in turn]


def _tiny(scene: Scene) -> bytes:
    """A thumbnail of 12 x 12 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(draw(scene)).resize((12, 12)).save(buffer, "JPEG")
    return buffer.getvalue()
