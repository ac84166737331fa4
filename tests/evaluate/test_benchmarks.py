"""Every benchmark on a small fake in its published layout, with scores counted by hand."""

from __future__ import annotations

import base64
import io
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from janus.evaluate.ask import conversation
from janus.evaluate.benchmark import BENCHMARKS, Questions
from janus.evaluate.metrics import Metric
from janus.evaluate.prompts import prompt_templates


def png(value: int = 0, side: int = 24) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (value % 256, 80, 160)).save(file, "PNG")
    return file.getvalue()


def load(name: str, **options: Any) -> Questions:
    return BENCHMARKS.load(name).Benchmark(**options)


def answered(
    benchmark: Questions, data: Path, said: Mapping[str, str], protocol: Any = "vlmevalkit"
) -> list[dict[str, Any]]:
    """Rows as a run makes them, from id to what was said."""
    return [
        {
            "id": question.id,
            "unit": question.unit or question.id,
            "category": question.category,
            "question": question.text,
            "options": question.options,
            "answer": question.answer,
            "said": said[question.id],
            **benchmark.mark(question, said[question.id], protocol),
            **question.facts,
        }
        for question in benchmark.read(data)
    ]


def scores(benchmark: Questions, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {name: score.value for name, score in benchmark.metrics(rows).items() if isinstance(score, Metric)}


def asked(benchmark: Questions, data: Path, place: int = 0) -> str:
    return conversation(benchmark.read(data)[place], prompt_templates({}, {}))[-1].text


def tsv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["\t".join(names)]
    for row in rows:
        cells = [str(row.get(name, "")) for name in names]
        lines.append("\t".join(f'"{cell}"' if "\n" in cell else cell for cell in cells))
    path.write_text("\n".join(lines) + "\n")
    return path


def mmbench_rows(answers: Sequence[str] = "AB") -> list[dict[str, Any]]:
    """Two questions, each in two rotations; rotations refer to the first row's picture."""
    rows = []
    for index, (answer, category) in enumerate(zip(answers, ("colour", "count"), strict=True)):
        options = {"A": "red", "B": "green"}
        turned = {"A": "green", "B": "red"}
        other = {"A": "B", "B": "A"}[answer] if answer else ""
        picture = base64.b64encode(png(index)).decode()
        about = {"question": f"which {category}?", "category": category, "l2-category": "perception", "split": "dev"}
        rows.append({"index": index, **about, "hint": "Look\nclosely." * index, **options, "answer": answer})
        rows[-1]["image"] = picture
        rows.append({"index": index + 1_000_000, **about, **turned, "answer": other, "image": str(index)})
    return rows


def test_mmbench_with_and_without_circular(tmp_path: Path) -> None:
    tsv(tmp_path / "mmbench" / "MMBench_DEV_EN.tsv", mmbench_rows())
    benchmark = load("mmbench")
    questions = benchmark.read(tmp_path)
    assert [question.id for question in questions] == ["0", "1000000", "1", "1000001"]
    assert questions[1].pictures[0].open().getpixel((0, 0)) == (0, 80, 160)  # by reference to row 0
    assert questions[3].pictures[0].open().getpixel((0, 0)) == (1, 80, 160)
    assert asked(benchmark, tmp_path, 2) == (
        "<image>\nHint: Look\nclosely.\nwhich count?\nA. red\nB. green\n\n"
        "Answer with the option's letter from the given choices directly."
    )
    # Question 0 (right: A, then B) is answered A, B: right both times. Question 1 (B, then A) B, B: once.
    rows = answered(benchmark, tmp_path, {"0": "A", "1000000": "B", "1": "B", "1000001": "B"})
    found = scores(benchmark, rows)
    assert found["accuracy"] == pytest.approx(3 / 4)
    assert found["first_rotation"] == pytest.approx(1.0)
    assert found["circular"] == pytest.approx(1 / 2)
    assert (found["colour"], found["colour (circular)"]) == (1.0, 1.0)
    assert (found["count"], found["count (circular)"]) == (0.5, 0.0)
    assert benchmark.split(tmp_path) == "MMBench_DEV_EN"


def test_mmbenchs_test_split_gives_a_file_for_its_server(tmp_path: Path) -> None:
    path = tsv(tmp_path / "mmbench" / "MMBench_TEST_EN.tsv", [{**row, "answer": ""} for row in mmbench_rows()])
    benchmark = load("mmbench", table=path)
    rows = answered(benchmark, tmp_path, {str(row["index"]): "A <&> \x00" for row in mmbench_rows()})
    assert {row["correct"] for row in rows} == {None}
    benchmark.submission(rows, tmp_path)
    with zipfile.ZipFile(tmp_path / "submission.xlsx") as archive:
        sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
    content = [["".join(cell.itertext()) for cell in row] for row in sheet[0]]
    assert content[0] == ["index", "question", "A", "B", "prediction"]
    assert content[2] == ["1000000", "which colour?", "green", "red", "A <&> "]
    assert len(content) == 5


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image": "7"}, "expected base64, or the index of a row that has it"),
        ({"answer": "C"}, "right answer 'C': expected A or B"),
        ({"A": "", "B": ""}, "expected a question and options"),
        ({"index": "x"}, "index 'x': expected a whole number"),
    ],
)
def test_a_wrong_row_of_a_table_is_named(tmp_path: Path, change: dict[str, str], complaint: str) -> None:
    rows = mmbench_rows()
    path = tsv(tmp_path / "t.tsv", [{**rows[0], **change}])
    with pytest.raises(ValueError, match=complaint):
        load("mmbench", table=path).read(tmp_path)


@pytest.mark.parametrize(("name", "place"), [("mmstar", "mmstar/MMStar.tsv"), ("ai2d", "ai2d/AI2D_TEST.tsv")])
def test_other_tables_of_the_kit(tmp_path: Path, name: str, place: str) -> None:
    tsv(tmp_path / place, [row for row in mmbench_rows() if row["index"] < 1_000_000])
    benchmark = load(name)
    found = scores(benchmark, answered(benchmark, tmp_path, {"0": "A", "1": "green!"}))
    assert (found["accuracy"], found["unreadable"]) == (1.0, 0.0)


def test_seedbench_takes_its_image_part_and_scores_by_dimension(tmp_path: Path) -> None:
    def question(number: int, dimension: int, kind: str = "image") -> dict[str, Any]:
        choices = {f"choice_{letter}": f"thing {letter}" for letter in "abcd"}
        about = {"answer": "B", "data_id": f"picture{number}", "data_type": kind, "question": "what?"}
        return {**choices, **about, "question_id": str(number), "question_type_id": dimension}

    folder = tmp_path / "seedbench" / "SEED-Bench-image"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"picture{number}").write_bytes(png(number))
    content = {
        "questions": [question(0, 1), question(1, 1), question(2, 5), question(3, 10, "video")],
        "question_type": {"Scene Understanding": 1, "Instances Counting": 5, "Action Recognition": 10},
    }
    (folder.parent / "SEED-Bench.json").write_text(json.dumps(content))
    benchmark = load("seedbench")
    assert benchmark.read(tmp_path)[2].pictures[0].open().size == (24, 24)
    found = scores(benchmark, answered(benchmark, tmp_path, {"0": "B", "1": "A", "2": "B"}))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert (found["Scene Understanding"], found["Instances Counting"]) == (0.5, 1.0)


def test_mme_sums_accuracy_and_accuracy_plus(tmp_path: Path) -> None:
    root = tmp_path / "mme" / "MME_Benchmark_release_version"
    flat, nested, cognition = root / "existence", root / "posters", root / "code_reasoning"
    for folder in (flat, nested / "images", nested / "questions_answers_YN", cognition):
        folder.mkdir(parents=True)
    for folder, texts in ((flat, flat), (nested / "images", nested / "questions_answers_YN"), (cognition, cognition)):
        for name in ("0001", "0002"):
            (folder / f"{name}.jpg").write_bytes(png())
            (texts / f"{name}.txt").write_text("Is it? Please answer yes or no.\tYes\nIs it not?\tNo\n")
    benchmark = load("mme")
    right = {"1": "Yes", "2": "no."}
    said = {question.id: right[question.id[-1]] for question in benchmark.read(tmp_path)}
    said |= {"existence/0002/2": "yes", "posters/0001/1": "no", "posters/0002/1": "hm", "code_reasoning/0001/1": "no"}
    found = scores(benchmark, answered(benchmark, tmp_path, said))
    # existence: 3 of 4 questions, 1 of 2 pictures; posters: 2 of 4, none; code_reasoning: 3 of 4, 1 of 2.
    assert found["existence"] == pytest.approx(75 + 50)
    assert found["posters"] == pytest.approx(50)
    assert found["perception"] == pytest.approx(175)
    assert found["cognition"] == pytest.approx(125)
    assert found["accuracy"] == pytest.approx(8 / 12)
    assert found["unreadable"] == pytest.approx(1 / 12)
    assert asked(benchmark, tmp_path) == (
        "<image>\nIs it? Please answer yes or no.\nAnswer the question using a single word or phrase."
    )


@pytest.fixture
def mmmu(tmp_path: Path) -> Path:
    none = dict.fromkeys(f"image_{place}" for place in range(1, 8))
    picture = {"bytes": png(), "path": "x.png"}
    rows = [
        {"id": "validation_Art_Theory_1", "question": "<image 1> or <image 2>?", "options": "['it\\'s red', \"green\"]"}
        | {**none, "image_1": picture, "image_2": picture, "answer": "B", "question_type": "multiple-choice"},
        {"id": "validation_Art_Theory_2", "question": "How many? <image 1>", "options": "[]"}
        | {**none, "image_1": picture, "answer": "['7', 'seven']", "question_type": "open"},
        {"id": "validation_Math_1", "question": "x? <image 1>", "options": "[]"}
        | {**none, "image_1": picture, "answer": "3.14", "question_type": "open"},
    ]
    path = tmp_path / "mmmu" / "Art_Theory" / "validation-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [(name, cell if name.startswith("image_") else pa.string()) for name in rows[0]]
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), path)
    return tmp_path


def test_mmmu_reads_choices_and_open_questions_with_several_pictures(mmmu: Path) -> None:
    benchmark = load("mmmu")
    questions = benchmark.read(mmmu)
    assert questions[0].options == {"A": "it's red", "B": "green"}
    assert [len(question.pictures) for question in questions] == [2, 1, 1]
    assert [question.category for question in questions] == ["Art Theory", "Art Theory", "Math"]
    assert asked(benchmark, mmmu).startswith("<image><image>\n<image 1> or <image 2>?\nA. it's red\nB. green\n\nAnswer")
    assert asked(benchmark, mmmu, 2) == "<image>\nx? <image 1>\nAnswer the question directly."
    said = {"validation_Art_Theory_1": "B", "validation_Art_Theory_2": "So it is seven", "validation_Math_1": "3.14"}
    # The kit compares an open answer with the text of the whole list, and so never finds "seven" in it.
    kit = scores(benchmark, answered(benchmark, mmmu, said))
    assert (kit["accuracy"], kit["Art Theory"], kit["Math"]) == (pytest.approx(2 / 3), 0.5, 1.0)
    strict = scores(benchmark, answered(benchmark, mmmu, said, "strict"))
    assert strict["accuracy"] == 1.0


def test_mmmus_options_are_data_and_never_code(mmmu: Path) -> None:
    path = next(mmmu.rglob("*.parquet"))
    table = pq.read_table(path).to_pylist()
    table[0]["options"] = "[__import__('os').getcwd()]"
    pq.write_table(pa.Table.from_pylist(table), path)
    with pytest.raises(ValueError, match="expected the text of a Python list"):
        load("mmmu").read(mmmu)


def test_gqa_is_exact_match(tmp_path: Path) -> None:
    (tmp_path / "gqa" / "images").mkdir(parents=True)
    rows = {
        "201": {"imageId": "n1", "question": "what?", "answer": "dog", "types": {"structural": "query"}},
        "202": {"imageId": "n1", "question": "is it?", "answer": "yes", "types": {"structural": "verify"}},
    }
    (tmp_path / "gqa" / "testdev_balanced_questions.json").write_text(json.dumps(rows))
    benchmark = load("gqa")
    said = {"201": "Dog.", "202": "Yes"}
    assert scores(benchmark, answered(benchmark, tmp_path, said))["accuracy"] == 0.5
    assert scores(benchmark, answered(benchmark, tmp_path, said, "strict"))["accuracy"] == 1.0
    assert benchmark.read(tmp_path)[0].pictures[0].name == "n1.jpg"


def write_vqa(data: Path, split: str, *, annotated: bool) -> None:
    folder = data / "vqav2"
    folder.mkdir(parents=True)
    (data / "coco" / ("test2015" if split.startswith("test") else split)).mkdir(parents=True)
    questions = [{"image_id": 42, "question": f"how many {n}?", "question_id": 42000 + n} for n in range(2)]
    (folder / f"v2_OpenEnded_mscoco_{split}_questions.json").write_text(json.dumps({"questions": questions}))
    if annotated:
        people = [["two"] * 2 + ["3"] * 8, ["yes"] * 10]
        rows = [
            {"question_id": 42000 + n, "answer_type": kind, "answers": [{"answer": one} for one in answers]}
            for n, (kind, answers) in enumerate(zip(("number", "yes/no"), people, strict=True))
        ]
        (folder / f"v2_mscoco_{split}_annotations.json").write_text(json.dumps({"annotations": rows}))


def test_vqav2_accuracy_and_the_servers_file(tmp_path: Path) -> None:
    write_vqa(tmp_path, "val2014", annotated=True)
    benchmark = load("vqav2")
    assert benchmark.read(tmp_path)[0].pictures[0].name == "COCO_val2014_000000000042.jpg"
    rows = answered(benchmark, tmp_path, {"42000": "2", "42001": "Yes."})
    found = scores(benchmark, rows)
    assert (found["number"], found["yes/no"], found["accuracy"]) == (pytest.approx(0.6), 1.0, pytest.approx(0.8))
    benchmark.submission(rows, tmp_path)
    assert json.loads((tmp_path / "submission.json").read_text()) == [
        {"question_id": 42000, "answer": "2"},
        {"question_id": 42001, "answer": "Yes."},
    ]


def test_vqav2s_test_split_has_no_answers(tmp_path: Path) -> None:
    write_vqa(tmp_path, "test-dev2015", annotated=False)
    benchmark = load("vqav2")
    assert benchmark.split(tmp_path) == "test-dev2015"
    questions = benchmark.read(tmp_path)
    assert questions[0].pictures[0].name == "COCO_test2015_000000000042.jpg"
    assert benchmark.mark(questions[0], "2", "vlmevalkit")["correct"] is None


def test_textvqa(tmp_path: Path) -> None:
    (tmp_path / "textvqa" / "train_images").mkdir(parents=True)
    rows = [{"question_id": 1, "image_id": "abc", "question": "what?", "answers": ["stop"] * 3 + ["go"] * 7}]
    (tmp_path / "textvqa" / "TextVQA_0.5.1_val.json").write_text(json.dumps({"data": rows}))
    benchmark = load("textvqa")
    assert scores(benchmark, answered(benchmark, tmp_path, {"1": "Stop"}))["accuracy"] == pytest.approx(0.9)


def test_scienceqa_takes_test_questions_with_a_picture(tmp_path: Path) -> None:
    (tmp_path / "scienceqa" / "test").mkdir(parents=True)
    base = {
        "question": "which?",
        "choices": ["fish", "bird", "cat"],
        "answer": 1,
        "hint": "It flies.",
        "subject": "bio",
    }
    rows = {
        "1": {**base, "image": "image.png", "split": "test"},
        "2": {**base, "image": None, "split": "test"},
        "3": {**base, "image": "image.png", "split": "val"},
    }
    (tmp_path / "scienceqa" / "problems.json").write_text(json.dumps(rows))
    benchmark = load("scienceqa")
    assert asked(benchmark, tmp_path).startswith("<image>\nHint: It flies.\nwhich?\nA. fish\nB. bird\nC. cat\n")
    found = scores(benchmark, answered(benchmark, tmp_path, {"1": "bird"}))
    assert (found["accuracy"], found["bio"]) == (1.0, 1.0)


class Endpoint(BaseHTTPRequestHandler):
    """A judge that gives 0.7 to answers with "right" in them, and is out of service once."""

    asked: list[dict[str, Any]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        if len(self.asked) == 1:
            self.send_error(503)
            return
        grade = "0.7" if "Answer: right" in body["messages"][0]["content"] else "I cannot tell"
        reply = json.dumps({"choices": [{"message": {"content": grade}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    Endpoint.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def mmvet(tmp_path: Path) -> Path:
    (tmp_path / "mmvet" / "images").mkdir(parents=True)
    rows = {
        "v1_0": {"imagename": "v1_0.png", "question": "x?", "answer": "1 <OR> 2", "capability": ["ocr", "math"]},
        "v1_1": {"imagename": "v1_1.png", "question": "y?", "answer": "cat", "capability": ["rec"]},
    }
    (tmp_path / "mmvet" / "mm-vet.json").write_text(json.dumps(rows))
    return tmp_path


def test_mmvet_without_a_judge_writes_what_its_evaluator_reads(mmvet: Path) -> None:
    benchmark = load("mmvet")
    (system, user) = conversation(benchmark.read(mmvet)[0], prompt_templates({}, {}))
    assert (system.role, user.text) == ("system", "<image>\nx?")
    rows = answered(benchmark, mmvet, {"v1_0": "one", "v1_1": "a cat"})
    assert {row["correct"] for row in rows} == {None}
    benchmark.submission(rows, mmvet)
    assert json.loads((mmvet / "answers.json").read_text()) == {"v1_0": "one", "v1_1": "a cat"}
    assert benchmark.protocols["vlmevalkit"] == "not graded"


def test_mmvet_with_a_judge(mmvet: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("JANUS_JUDGE_KEY", "k")
    benchmark = load("mmvet", judge_url=endpoint, judge_model="grader")
    rows = answered(benchmark, mmvet, {"v1_0": "right {braces}", "v1_1": "wrong"})
    found = scores(benchmark, rows)
    assert found["accuracy"] == pytest.approx(0.35)
    assert (found["ocr"], found["math"], found["rec"]) == (pytest.approx(0.7), pytest.approx(0.7), 0.0)
    assert found["unreadable"] == 0.5
    first = Endpoint.asked[1]
    assert (first["path"], first["key"], first["model"], first["temperature"]) == (
        "/v1/chat/completions", "Bearer k", "grader", 0,
    )  # fmt: skip
    assert benchmark.protocols["strict"] == "graded by grader, our prompt"
    with pytest.raises(ValueError, match="one of them is missing"):
        load("mmvet", judge_url=endpoint).read(mmvet)


def test_a_judge_that_does_not_answer_is_one_line(mmvet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    benchmark = load("mmvet", judge_url="http://127.0.0.1:1/v1", judge_model="grader")
    with pytest.raises(ValueError, match=r"judge http://127.0.0.1:1/v1/chat/completions: .*refused"):
        answered(benchmark, mmvet, {"v1_0": "x", "v1_1": "y"})


def test_every_benchmark_is_at_most_a_hundred_lines_and_says_what_it_is() -> None:
    for name in BENCHMARKS.names():
        module = BENCHMARKS.load(name)
        assert (module.__doc__ or "").strip(), name
        assert module.Benchmark.title, name
        if module.__name__.startswith("janus."):
            assert len(Path(str(module.__file__)).read_text().splitlines()) <= 100, name
