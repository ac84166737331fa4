"""Small fakes of the published data sets, each in its true layout, with counts and names that differ from seed to seed.

A builder makes the files below the folder that the shipped specs call `{data}` and returns what reading them must give.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


@dataclass
class Expected:
    """What reading a fake must give."""

    texts: list[str]
    """Of each row that can be read, in order: its messages, joined by " | ". """
    images: int
    """References in all rows."""
    skipped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    """Local images that are not there."""


@dataclass
class Fake:
    """The folder of all data sets, and the dice that names and counts are taken from."""

    root: Path
    dice: random.Random
    host: str = "http://pictures.test"
    """What addresses begin with."""
    served: Path | None = None
    """Where a picture for each address is put, if it is to be fetched."""
    side: int = 64
    """Short side of the pictures."""

    def photo(self, seed: object) -> bytes:
        """A JPEG that is a function of `seed`: smooth, and unlike the others."""
        side = self.side
        dice = random.Random(repr(seed))
        small = Image.frombytes("RGB", (8, 8), dice.randbytes(192))
        file = io.BytesIO()
        small.resize((side + side // 4, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        return file.getvalue()

    def put(self, name: str, data: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def address(self, seed: str) -> str:
        name = f"{seed}.jpg"
        if self.served is not None:
            path = self.served / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.photo(seed))
        return f"{self.host}/{name}"

    def table(self, name: str, rows: list[dict[str, Any]], **more: Any) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(more.pop("table", None) or pa.Table.from_pylist(rows), path, **more)

    def tar(self, name: str, members: list[tuple[str, bytes]], mode: Any = "w") -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, mode) as archive:
            for member, data in members:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

    def some(self, low: int = 3, high: int = 7) -> range:
        return range(self.dice.randint(low, high))

    def number(self, digits: int = 7) -> int:
        return self.dice.randrange(10 ** (digits - 1), 10**digits)


LAYOUTS: dict[str, Callable[[Fake], Expected]] = {}
"""Name of a source in the shipped specs, and the layout of its set where there are several."""


def layout(*names: str) -> Callable[[Callable[[Fake], Expected]], Callable[[Fake], Expected]]:
    def register(build: Callable[[Fake], Expected]) -> Callable[[Fake], Expected]:
        LAYOUTS.update(dict.fromkeys(names, build))
        return build

    return register


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _sharegpt4v(fake: Fake, file: str) -> Expected:
    rows, texts, missing = [], [], 0
    for n in fake.some(5, 9):
        folder = fake.dice.choice(["coco/train2017", "llava/llava_pretrain/images/00453", "sam/images"])
        name = f"{folder}/{fake.number(12)}.jpg"
        if folder == "sam/images":
            missing += 1
        else:
            fake.put(f"sharegpt4v/data/{name}", fake.photo(name))
        texts.append(f"The image number {n} shows a lot.")
        turns = [{"from": "human", "value": "What do you see?\n<image>"}, {"from": "gpt", "value": texts[-1]}]
        rows.append({"id": str(n), "image": name, "conversations": turns})
    fake.put(file, json.dumps(rows))
    return Expected(texts, len(rows), missing=missing)


JSON_FILE = "share-captioner_coco_lcs_sam_1246k_1107.json"


@layout("sharegpt4v (Hub)")
def sharegpt4v_hub(fake: Fake) -> Expected:
    return _sharegpt4v(fake, f"sharegpt4v/{JSON_FILE}")


@layout("sharegpt4v (project tree)")
def sharegpt4v_tree(fake: Fake) -> Expected:
    return _sharegpt4v(fake, f"sharegpt4v/data/sharegpt4v/{JSON_FILE}")


@layout("imagenet (Kaggle)")
def imagenet(fake: Fake) -> Expected:
    classes = {"n01440764": "tench, Tinca tinca", "n02012849": "crane", "n03126707": "crane, hoisting device"}
    fake.put("imagenet/LOC_synset_mapping.txt", "".join(f"{wnid} {name}\n" for wnid, name in classes.items()))
    texts = []
    for wnid, name in sorted(classes.items()):
        for n in fake.some(1, 4):
            fake.put(f"imagenet/ILSVRC/Data/CLS-LOC/train/{wnid}/{wnid}_{n}.JPEG", fake.photo((wnid, n)))
            texts.append(name.split(",")[0])
    return Expected(texts, len(texts))


@layout("imagenet (Hub)")
def imagenet_hub(fake: Fake) -> Expected:
    names = ["tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark"]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    texts = []
    for shard in fake.some(1, 3):
        labels = [fake.dice.randrange(3) for _ in fake.some()]
        images = [{"bytes": fake.photo((shard, n)), "path": f"n01440764_{n}.JPEG"} for n, _ in enumerate(labels)]
        table = pa.table({"image": images, "label": pa.array(labels, pa.int64())})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        fake.table(f"imagenet-1k/data/train-{shard:05d}-of-00003.parquet", [], table=table)
        texts += [names[label].split(",")[0] for label in labels]
    test = pa.table({"image": [{"bytes": b"x", "path": ""}], "label": pa.array([-1], pa.int64())})
    fake.table("imagenet-1k/data/test-00000-of-00001.parquet", [], table=test)
    return Expected(texts, len(texts))


@layout("c4")
def c4(fake: Fake) -> Expected:
    texts = []
    for shard in fake.some(1, 3):
        rows = [{"text": f"A page {shard} {n} of text.", "timestamp": "t", "url": "u"} for n in fake.some()]
        fake.put(f"c4/en/c4-train.{shard:05d}-of-01024.json.gz", gzip.compress(lines(rows).encode()))
        texts += [row["text"] for row in rows]
    rows = [{"text": "Not to be trained on.", "timestamp": "t", "url": "u"}]
    fake.put("c4/en/c4-validation.00000-of-00008.json.gz", gzip.compress(lines(rows).encode()))
    return Expected(texts, 0)


@layout("mmc4")
def mmc4(fake: Fake) -> Expected:
    texts, images = [], 0
    for shard in fake.some(1, 3):
        pages = []
        for page in fake.some():
            sentences = [f"Sentence {n} of page {shard} {page}." for n in fake.some(4, 8)]
            at = sorted(fake.dice.randrange(len(sentences)) for _ in fake.some(2, 5))
            infos = [
                {
                    "image_name": f"{shard}{page}{n}.jpg", "raw_url": fake.address(f"mmc4/{shard}-{page}-{n}"),
                    "matched_text_index": index, "matched_sim": 0.3, "face_detections": None,
                }
                for n, index in enumerate(at)
            ]  # fmt: skip
            similarity = [[0.25] * len(sentences)] * len(at)
            pages.append({"url": "u", "text_list": sentences, "image_info": infos, "similarity_matrix": similarity})
            texts.append(" ".join("<image> " * at.count(n) + sentence for n, sentence in enumerate(sentences)))
            images += len(at)
        path = fake.put(f"mmc4/docs_no_face_shard_{shard}_v3.jsonl.zip", b"")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"docs_no_face_shard_{shard}_v3.jsonl", lines(pages))
    return Expected(texts, images)


WIT = [
    "language", "page_url", "image_url", "page_title", "section_title", "hierarchical_section_title",
    "caption_reference_description", "caption_attribution_description", "caption_alt_text_description", "mime_type",
    "original_height", "original_width", "is_main_image", "attribution_passes_lang_id", "page_changed_recently",
    "context_page_description", "context_section_description",
]  # fmt: skip


@layout("wit")
def wit(fake: Fake) -> Expected:
    texts, other = [], 0
    for shard in fake.some(1, 3):
        file = io.StringIO()
        writer = csv.DictWriter(file, WIT, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for n in fake.some(6, 10):
            row = dict.fromkeys(WIT, "")
            row |= {"language": fake.dice.choice(["en", "en", "de"]), "image_url": fake.address(f"wit/{shard}-{n}")}
            row |= {
                "mime_type": fake.dice.choice(["image/jpeg", "image/png", "image/svg+xml"]),
                "page_title": f"Page {n}",
            }
            row |= {"context_page_description": f'The page {shard} {n}, with a "quote".', "original_width": "64"}
            if fake.dice.random() < 0.5:
                row["caption_alt_text_description"] = f"An alternative text {n}"
            writer.writerow(row)
            if row["language"] != "en" or row["mime_type"] == "image/svg+xml":
                other += 1
                continue
            picture = f"<image> {row['caption_alt_text_description']}".strip()
            texts.append(f"Page {n}\n\n{row['context_page_description']}\n\n{picture}")
        data = gzip.compress(file.getvalue().encode())
        fake.put(f"wit/wit_v1.train.all-{shard:05d}-of-00010.tsv.gz", data)
    return Expected(texts, len(texts), skipped={"where": other})


@layout("wikihow")
def visualhow(fake: Fake) -> Expected:
    problems, texts, images = {}, [], 0
    for n in fake.some():
        steps = [f"Do step {step} of {n}." for step in fake.some(2, 5)]
        urls = [fake.address(f"how/{n}-{step}") for step in range(len(steps))][: fake.dice.randint(1, 5)]
        problems[f"{n:06d}_0"] = {
            "article_id": f"{n:06d}", "category": ["Home"], "url": "u", "article_title": f"How to {n}",
            "problem_title": f"Part {n}", "problem_index": "0", "image_url": urls, "step_list": steps,
        }  # fmt: skip
        parts = [f"How to {n}: Part {n}"]
        for index, step in enumerate(steps):
            parts += ["<image>"] * (index < len(urls)) + [step]
        texts.append("\n\n".join(parts))
        images += len(urls)
    fake.put("visualhow/wikiHow_data.json", json.dumps(problems))
    return Expected(texts, images)


@layout("obelics")
def obelics(fake: Fake) -> Expected:
    rows, expected, images = [], [], 0
    for n in fake.some():
        texts: list[str | None] = []
        urls: list[str | None] = []
        for part in fake.some(3, 6):
            image = fake.dice.random() < 0.4
            texts.append(None if image else f"Paragraph {part} of {n}.")
            urls.append(fake.address(f"obelics/{n}-{part}") if image else None)
        texts.append(f"The end of {n}.")
        urls.append(None)
        rows.append({"images": urls, "metadata": "[]", "general_metadata": "{}", "texts": texts})
        expected.append("\n\n".join(text or "<image>" for text in texts))
        images += sum(url is not None for url in urls)
    fake.table("obelics/data/train-00000-of-01335.parquet", rows)
    return Expected(expected, images)


@layout("pixelprose", "pixelprose-describe")
def pixelprose(fake: Fake) -> Expected:
    texts, other = [], 0
    for part in ("cc12m", "redcaps", "common-pool"):
        rows = []
        for n in fake.some(4, 8):
            kept = fake.dice.random() < 0.6
            good = {"aesthetic_score": 5.5, "width": 640, "height": 512}
            bad = fake.dice.choice([{"aesthetic_score": 4.9}, {"width": 511}, {"height": None}])
            text = f"{part} {n}: a photo of a dog. It is brown."
            rows.append(
                {
                    "uid": f"{n}", "url": fake.address(f"prose/{part}-{n}"), "key": f"{n}", "status": "success",
                    "original_caption": "x", "vlm_model": "gemini", "vlm_caption": f"This image displays: {text}",
                    "toxicity": 0.1, "watermark_class_id": 1, "watermark_class_score": 0.2,
                    "original_width": 640, "original_height": 512, "exif": "{}", "sha256": "0", **good,
                    **({} if kept else bad),
                }
            )  # fmt: skip
            other += not kept
            if kept:
                texts.append(text)
        fake.table(f"pixelprose/data/vlm_captions_{part}_00.parquet", rows, row_group_size=3)
    order = {"cc12m": 0, "common-pool": 1, "redcaps": 2}
    texts.sort(key=lambda text: order[text.split()[0]])
    return Expected(texts, len(texts), skipped={"where": other})


@layout("laion-aesthetics")
def laion(fake: Fake) -> Expected:
    rows, texts, other = [], [], 0
    for n in fake.some(6, 12):
        kept = fake.dice.random() < 0.6
        text = f" An aesthetic picture of hills {n} "
        row = {"URL": fake.address(f"laion/{n}"), "TEXT": text, "WIDTH": 800.0, "HEIGHT": 600.0, "similarity": 0.3}
        row |= {"punsafe": 0.01, "pwatermark": 0.1, "AESTHETIC_SCORE": 6.1, "hash": n, "x_10nn": 0.5, "y_10nn": 0.5}
        row |= {} if kept else fake.dice.choice([{"WIDTH": 383.0}, {"punsafe": 0.9}, {"pwatermark": None}])
        rows.append(row)
        texts += [text.strip()] if kept else []
        other += not kept
    fake.table("laion-aesthetics-12m-umap/train.parquet", rows)
    return Expected(texts, len(texts), skipped={"where": other})


YFCC = [
    "photoid", "uid", "unickname", "datetaken", "dateuploaded", "capturedevice", "title", "description", "usertags",
    "machinetags", "longitude", "latitude", "accuracy", "pageurl", "downloadurl", "licensename", "licenseurl",
    "serverid", "farmid", "secret", "secretoriginal", "ext", "marker", "key",
]  # fmt: skip


@layout("yfcc15m", "yfcc15m-describe")
def yfcc15m(fake: Fake) -> Expected:
    texts = []
    path = fake.put("yfcc15m/yfcc15m.csv", "")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, YFCC)
        writer.writeheader()
        for n in fake.some(4, 9):
            described = fake.dice.random() < 0.5
            title, text = f"Row of buildings, {n}", f"A street & its houses {n}: très joli"
            row = dict.fromkeys(YFCC, "") | {"photoid": str(fake.number()), "title": quote_plus(title), "ext": "jpg"}
            row |= {"downloadurl": fake.address(f"yfcc/{n}"), "licensename": "Attribution License"}
            row["description"] = quote_plus(text) if described else ""
            writer.writerow(row)
            texts.append(text if described else title)
    return Expected(texts, len(texts))


@layout("megalith")
def megalith(fake: Fake) -> Expected:
    texts, captions, none = [], [], 0
    for shard in fake.some(1, 3):
        rows = []
        for n in fake.some():
            source = f"https://www.flickr.com/photos/{shard}/{n}"
            small, large = f"http://small.test/{shard}-{n}.jpg", fake.address(f"megalith/{shard}-{n}")
            rows.append({"url": small, "url_highres": large, "url_source": source})
            if fake.dice.random() < 0.7:
                texts.append(f"A lake {shard} {n}, with a boat.")
                captions.append({"url_source": source, "caption": texts[-1]})
            else:
                none += 1
        fake.table(f"megalith-10m/data/{shard:05d}.parquet", rows)
    fake.dice.shuffle(captions)
    path = fake.put("megalith-10m/florence2_captions.csv", "")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["url_source", "caption"])
        writer.writeheader()
        writer.writerows([*captions, {"url_source": "https://of-another", "caption": "of another set"}])
    return Expected(texts, len(texts), skipped={"no_caption": none})


@layout("journeydb")
def journeydb(fake: Fake) -> Expected:
    rows, texts, missing = [], [], 0
    for n in fake.some(4, 8):
        name = f"{fake.dice.randrange(3):03d}/{fake.number():x}.jpg"
        captioned = fake.dice.random() < 0.5
        if fake.dice.random() < 0.8:
            fake.put(f"journeydb/data/train/imgs/{name}", fake.photo(name))
        else:
            missing += 1
        row: dict[str, Any] = {"img_path": f"./{name}", "prompt": f"a castle {n}, at dusk --ar 16:9 --v 5 --no people"}
        row |= {"Task2": {"Caption": f"A castle {n} stands on a hill."}} if captioned else {"Task2": {"Caption": None}}
        rows.append(row)
        texts.append(f"A castle {n} stands on a hill." if captioned else f"a castle {n}, at dusk")
    fake.put("journeydb/data/train/train_anno_realease_repath.jsonl", lines(rows))
    return Expected(texts, len(rows), missing=missing)


@layout("dalle3")
def dalle3(fake: Fake) -> Expected:
    texts = []
    for shard in fake.some(1, 3):
        members = []
        for n in fake.some():
            name = f"{shard}_{n}_{fake.number():x}"
            texts.append(f"A robot {shard} {n} paints. It smiles.")
            about = {"short_caption": "A robot.", "long_caption": f" {texts[-1]} ", "original_prompt": "robot --v 6"}
            members.append((f"{name}.{fake.dice.choice(['jpg', 'png'])}", fake.photo(name)))
            members.append((f"{name}.json", json.dumps(about).encode()))
        fake.tar(f"dalle3-1m/data/data-{shard:06d}.tar", members)
    return Expected(texts, len(texts))


@layout("sa-1b")
def sa1b(fake: Fake) -> Expected:
    texts, captions, none, number = [], [], 0, 0
    for shard in fake.some(1, 3):
        members = []
        for _ in fake.some():
            number += 1
            members.append((f"./sa_{number}.jpg", fake.photo(("sa", number))))
            masks = {"image": {"image_id": number}, "annotations": [{"segmentation": {"counts": "x" * 50}}] * 3}
            members.append((f"./sa_{number}.json", json.dumps(masks).encode()))
            if fake.dice.random() < 0.7:
                texts.append(f"A market {number} full of people.")
                captions.append((f"SA1B_caption/sa_{number}.txt", texts[-1].encode()))
            else:
                none += 1
        fake.tar(f"sa-1b/sa_{shard:06d}.tar", members)
    fake.dice.shuffle(captions)
    fake.tar("sa-1b/SA1B_caption.tar.gz", captions, "w:gz")
    return Expected(texts, len(texts), skipped={"no_caption": none})


OPEN_IMAGES = [
    "ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title",
    "OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation",
]  # fmt: skip


@layout("open-images", "open-images-describe")
def open_images(fake: Fake) -> Expected:
    texts, narratives, none = [], [], 0
    path = fake.put("open-images/train-images-boxable-with-rotation.csv", "")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, OPEN_IMAGES)
        writer.writeheader()
        for n in fake.some(5, 9):
            row = dict.fromkeys(OPEN_IMAGES, "") | {"ImageID": f"{fake.number():016x}", "Subset": "train"}
            row |= {"OriginalURL": fake.address(f"open/{n}"), "License": "https://creativecommons.org/licenses/by/2.0/"}
            row["Title"] = 'A "title", quoted'
            writer.writerow(row)
            if fake.dice.random() < 0.7:
                texts.append(f"In this image {n} there is a cat on a chair.")
                narratives.append({"dataset_id": "open_images_train", "image_id": row["ImageID"], "caption": texts[-1]})
                narratives.append({**narratives[-1], "annotator_id": 2, "caption": "By another annotator."})
            else:
                none += 1
    for shard in range(2):
        name = f"open-images/open_images_train_v6_localized_narratives-{shard:05d}-of-00010.jsonl"
        fake.put(name, lines(narratives[shard * 4 : shard * 4 + 4] if shard == 0 else narratives[4:]))
    fake.put("open-images/class-descriptions.csv", "/m/011k07,Tortoise\n")
    return Expected(texts, len(texts), skipped={"no_caption": none})


@layout("densefusion")
def densefusion(fake: Fake) -> Expected:
    rows, texts, missing = [], [], 0
    for n in fake.some(4, 8):
        name = f"{fake.dice.randrange(10)}/{fake.number()}.jpg"
        if fake.dice.random() < 0.8:
            fake.put(f"densefusion-1m/images/{name}", fake.photo(name))
        else:
            missing += 1
        texts.append(f"The image {n} shows a harbour in detail.")
        row = {"image_id": str(n), "image_path": name, "caption": texts[-1], "url": "u", "width": 80, "height": 64}
        rows.append(row)
    fake.put("densefusion-1m/DenseFusion-1M.jsonl", lines(rows))
    return Expected(texts, len(rows), missing=missing)


@layout("arxivcap")
def arxivcap(fake: Fake) -> Expected:
    rows, texts = [], []
    for paper in fake.some(2, 4):
        figures = []
        for figure in fake.some(1, 3):
            caption, pairs = f"Figure {figure} of {paper}.", []
            for picture in fake.some(1, 3):
                own = f"({picture}) a plot" if fake.dice.random() < 0.5 else None
                image = {"bytes": fake.photo(("arxiv", paper, figure, picture)), "path": f"{picture}.png"}
                pairs.append({"sub_caption": own, "image_file": "x", "image": image, "image_ocr": ["p"]})
                texts.append(f"{own} {caption}" if own else caption)
            figures.append({"caption": caption, "cil_pairs": pairs})
        rows.append({"src": "s", "arxiv_id": f"{paper}", "title": "t", "abstract": "a", "caption_images": figures})
    fake.table("arxivcap/data/arXiv_src_0001_001.parquet", rows)
    return Expected(texts, len(texts))


@layout("docmatix")
def docmatix(fake: Fake) -> Expected:
    rows, texts, images = [], [], 0
    for n in fake.some():
        pages = [{"bytes": fake.photo(("doc", n, page)), "path": None} for page in fake.some(1, 4)]
        pairs = [
            {"user": f"What is {q} on {n}?", "assistant": f"It is {q}.", "source": "PDFA"} for q in fake.some(1, 3)
        ]
        rows.append({"images": pages, "texts": pairs})
        turns = [text for pair in pairs for text in (pair["user"], pair["assistant"])]
        texts.append(" | ".join(["<image>\n" * len(pages) + turns[0], *turns[1:]]))
        images += len(pages)
    fake.table("docmatix/data/train-00000-of-00330.parquet", rows)
    return Expected(texts, images)


def _onevision(fake: Fake) -> tuple[list[str], list[str]]:
    visual, text = [], []
    for subset in ("iconqa(cauldron,llava_format)", "screen2words(cauldron)", "magpie_pro(l3_80b_st)"):
        rows = []
        for n in fake.some(2, 5):
            seen = not subset.startswith("magpie")
            question, answer = f"{subset} {n}: what?", f"That {n}."
            turns = [{"from": "human", "value": "<image>\n" * seen + question}, {"from": "gpt", "value": answer}]
            image = {"bytes": fake.photo((subset, n)), "path": f"{n}.jpg"} if seen else None
            rows.append({"id": f"{n}", "image": image, "conversations": turns, "data_source": subset})
            (visual if seen else text).append(f"{turns[0]['value']} | {answer}")
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        table = pa.table({**columns, "image": pa.array(columns["image"], kind)})
        fake.table(f"llava-onevision/{subset}/train-00000-of-00001.parquet", rows, table=table)
    return visual, text


@layout("llava-onevision")
def onevision(fake: Fake) -> Expected:
    visual, text = _onevision(fake)
    return Expected(visual, len(visual), skipped={"other_task": len(text)})


@layout("llava-onevision-text")
def onevision_text(fake: Fake) -> Expected:
    visual, text = _onevision(fake)
    return Expected(text, 0, skipped={"other_task": len(visual)})


@layout("llava-mix")
def llava_mix(fake: Fake) -> Expected:
    rows, texts, other, missing = [], [], 0, 0
    for n in fake.some(8, 14):
        turns = [{"from": "human", "value": f"Question {n}?"}, {"from": "gpt", "value": f"Answer {n}."}]
        folder = fake.dice.choice(
            ["coco/train2017", "gqa/images", "ocr_vqa/images", "vg/VG_100K", "vg/VG_100K_2", None]
        )
        if folder is None:
            rows.append({"id": f"{n}", "model": "", "conversations": turns})
            other += 1
            continue
        name = f"{folder}/{fake.number()}.jpg"
        if folder == "ocr_vqa/images":
            missing += 1
        else:
            fake.put(f"llava-1.5/{name}", fake.photo(name))
        turns[0]["value"] = f"<image>\nQuestion {n}?"
        rows.append({"id": f"{n}", "image": name, "conversations": turns})
        texts.append(f"<image>\nQuestion {n}? | Answer {n}.")
    fake.put("llava-1.5/llava_v1_5_mix665k.json", json.dumps(rows))
    return Expected(texts, len(texts), skipped={"other_task": other} if other else {}, missing=missing)


SHORT = "\nAnswer the question using a single word or phrase."


@layout("vqav2")
def vqav2(fake: Fake) -> Expected:
    questions, annotations, texts, missing = [], [], [], 0
    for n in fake.some(4, 9):
        image = fake.number(6)
        name = f"vqav2/train2014/COCO_train2014_{image:012d}.jpg"
        if fake.dice.random() < 0.8:
            fake.put(name, fake.photo(name))
        else:
            missing += 1
        questions.append({"image_id": image, "question": f"What is {n}?", "question_id": image * 1000 + n})
        answers = [{"answer": "a cat", "answer_confidence": "yes", "answer_id": 1}]
        answer = {"question_type": "what", "multiple_choice_answer": f"cat {n}", "answers": answers, "image_id": image}
        annotations.append({**answer, "question_id": image * 1000 + n})
        texts.append(f"<image>\nWhat is {n}?{SHORT} | cat {n}")
    fake.dice.shuffle(annotations)
    about = {"info": {"year": 2017, "list": [[1], "]"]}, "license": {"name": "CC"}, "data_subtype": "train2014"}
    name = "vqav2/v2_OpenEnded_mscoco_train2014_questions.json"
    fake.put(name, json.dumps({**about, "task_type": "Open-Ended", "questions": questions}))
    fake.put("vqav2/v2_mscoco_train2014_annotations.json", json.dumps({**about, "annotations": annotations}))
    return Expected(texts, len(texts), missing=missing)


@layout("gqa")
def gqa(fake: Fake) -> Expected:
    questions, texts = {}, []
    for n in fake.some(4, 9):
        image = str(fake.number())
        fake.put(f"gqa/images/{image}.jpg", fake.photo(image))
        row: dict[str, Any] = {
            "semantic": [{"operation": "select", "dependencies": []}],
            "imageId": image,
            "question": f"Is it {n}?",
        }
        questions[f"{fake.number(8)}"] = {
            **row,
            "answer": "no",
            "fullAnswer": f"No, it is not {n}.",
            "isBalanced": True,
        }
        texts.append(f"<image>\nIs it {n}?{SHORT} | no")
    fake.put("gqa/questions1.2/train_balanced_questions.json", json.dumps(questions))
    return Expected(texts, len(texts))


@layout("screenqa")
def screenqa(fake: Fake) -> Expected:
    rows, texts, missing, bad = [], [], 0, 0
    for n in fake.some(5, 9):
        image = fake.number(5)
        answers = [{"full_answer": f"The price is {n}.", "ui_elements": [{"text": str(n), "bounds": [0, 0, 1, 1]}]}] * 2
        rows.append({"image_id": image, "image_width": 1, "image_height": 1, "question": f"Price {n}?"})
        rows[-1] |= {"ground_truth": answers}
        if fake.dice.random() < 0.8:
            fake.put(f"screenqa/rico/{image}.jpg", fake.photo(("rico", image)))
        else:
            missing += 1
        texts.append(f"<image>\nPrice {n}? | The price is {n}.")
    fake.put("screenqa/answers_and_bboxes/train.json", json.dumps(rows))
    fake.put("screenqa/short_answers/train.json", json.dumps([{"image_id": 1, "question": "q", "ground_truth": ["s"]}]))
    return Expected(texts, len(texts), missing=missing, failed={"bad_row": bad} if bad else {})


@layout("iconqa")
def iconqa(fake: Fake) -> Expected:
    texts: list[tuple[str, str]] = []
    skipped = 0
    for kind in ("choose_txt", "choose_img", "fill_in_blank"):
        for _ in fake.some(2, 4):
            number, answer = fake.number(5), fake.dice.randrange(3)
            folder = f"iconqa/train/{kind}/{number}"
            row: dict[str, Any] = {
                "question": f"How many {number}?",
                "ques_type": kind,
                "grade": "grade1",
                "label": "L",
            }
            if kind == "choose_txt":
                row |= {"choices": ["3", "5", "7"], "answer": answer}
                letters = "\nA. 3\nB. 5\nC. 7"
                right = ("A. 3", "B. 5", "C. 7")[answer]
                texts.append((folder, f"<image>\nHow many {number}?{letters} | {right}"))
            elif kind == "choose_img":
                row |= {"choices": ["choice_0.png", "choice_1.png"], "answer": 0}
                skipped += 1
            else:
                row["answer"] = str(answer)
                texts.append((folder, f"<image>\nHow many {number}? | {answer}"))
            fake.put(f"{folder}/data.json", json.dumps(row))
            fake.put(f"{folder}/image.png", fake.photo(folder))
    fake.put("iconqa/val/choose_txt/1/data.json", json.dumps({"question": "q", "choices": ["a"], "answer": 0}))
    return Expected([text for _, text in sorted(texts)], len(texts), skipped={"other_task": skipped})


@layout("kvqa")
def kvqa(fake: Fake) -> Expected:
    images, texts = {}, []
    for n in fake.some(3, 6):
        name = f"KVQAimgs/{n}.jpg"
        fake.put(f"kvqa/{name}", fake.photo(name))
        questions = [f"Who is {q} in {n}?" for q in fake.some(1, 4)]
        answers: list[Any] = [fake.dice.choice([f"Person {q}", q, "Yes"]) for q in range(len(questions))]
        images[str(n)] = {
            "NamedEntities": ["X"], "imgPath": name, "ParaQuestions": questions, "Qids": ["Q1"], "Questions": questions,
            "split": [1, 2, 1, 3, 1], "wikiCap": "w", "Answers": answers, "Type of Question": [["1-hop"]],
        }  # fmt: skip
        turns = [part for pair in zip(questions, map(str, answers), strict=True) for part in pair]
        texts.append("<image>\n" + " | ".join(turns))
    fake.put("kvqa/dataset.json", json.dumps(images))
    return Expected(texts, len(images))


@layout("mantis")
def mantis(fake: Fake) -> Expected:
    rows, texts, images = [], [], 0
    for n in fake.some(3, 6):
        pictures = [{"bytes": fake.photo(("mantis", n, k)), "path": f"{n}_{k}.jpg"} for k in fake.some(2, 4)]
        marks = "<image>" * len(pictures)
        turns = [
            {"role": "user", "content": f"{marks} Compare {n}."},
            {"role": "assistant", "content": f"They differ {n}."},
        ]
        rows.append({"id": f"{n}", "images": pictures, "conversation": None, "conversations": turns})
        texts.append(f"{marks} Compare {n}. | They differ {n}.")
        images += len(pictures)
    fake.table("mantis-instruct/nlvr2/train-00000-of-00001.parquet", rows)
    return Expected(texts, images)
