"""Names, captions, questions and answers of others in every page: shown as they are, and nothing of them runs."""

from __future__ import annotations

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from demo.report import sections
from demo.report.scores import CaptionScores
from janus.evaluate import store
from janus.evaluate.benchmarks.counting import Benchmark as Counting
from janus.evaluate.chosen import Chosen
from janus.evaluate.report import write_report
from janus.report import svg
from janus.report.html import POLICY, Raw, image, page, section, stacked_bar, table, tag
from pipelines.funnel import Funnel
from tests.evaluate.test_report import RUN, record
from tests.evaluate.worlds import write_lines

OWN = "document.documentElement.setAttribute('data-owned','1')"
HOSTILE = (
    f"<script>{OWN}</script>",
    f'"><img src=x onerror="{OWN}">',
    f"'><svg onload={OWN}>",
    f"</title></style></textarea><script>{OWN}</script>",
    f"<iframe srcdoc=\"<script>parent.{OWN}</script>\"></iframe><a href=\"javascript:{OWN}\">x</a>",
    f'" onmouseover="{OWN}" style="position:fixed;background:url(http://127.0.0.1:9/x)',
    f"]]><!-- --><base href=http://127.0.0.1:9/><meta http-equiv=refresh content='0;url=javascript:{OWN}'>",
    "\x1b]0;title\x07\x00\u202e\u2028\udcff",
)  # fmt: skip
INERT = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "main",
    "h1",
    "h2",
    "h3",
    "p",
    "table",
    "tr",
    "th",
    "td",
    "div",
}
INERT |= {"b", "i", "span", "dl", "dt", "dd", "figure", "figcaption", "img", "text", "rect", "line", "polyline", "svg"}


class Elements(HTMLParser):
    """Everything active in a document, and its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.active: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.text += [value for value in found.values() if value]
        harmless = name in INERT and not any(key.startswith("on") for key in found)
        harmless &= not {"href", "xlink:href", "action", "formaction", "srcdoc", "srcset", "data", "is"} & found.keys()
        harmless &= (
            re.match(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]*$", found.get("src") or "data:image/png;base64,")
            is not None
        )
        harmless &= not re.search(r"url|import|expression", found.get("style") or "")
        harmless &= "http-equiv" not in found or found["content"] == POLICY
        if not harmless:
            self.active.append(f"{name} {attributes}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def shown(text: str) -> str:
    """What a parser makes of a text: lone surrogates are written out, NUL and line ends are the parser's."""
    return text.encode("utf-8", "backslashreplace").decode()


def evaluation(folder: Path, text: str) -> str:
    """The report of an evaluation in which every name and text of others is `text`."""
    picture = folder / "0.png"
    Image.new("RGB", (8, 8)).save(picture)
    write_lines(folder / "counting.jsonl", [{"image": picture.name, "text": shown(text), "label": 2}])
    benchmark = Counting(questions=folder / "counting.jsonl")
    questions = benchmark.read(folder)
    row = {"id": questions[0].id, "unit": "", "category": text, "pictures": [], "question": text, "options": {}}
    safe = shown(text)
    row |= {"answer": safe, "said": safe, "read": f"{safe} read", "correct": 0.0}
    store.write_lines(
        folder / "counting" / "rows.jsonl", [{k: shown(v) if isinstance(v, str) else v for k, v in row.items()}]
    )
    about = record(text, text, {text: 0.5}, notes=[text], split=text, protocol=text, prompts={text: text})
    about |= {"prompts_from": {text: text}, "max_new_tokens": 3}
    results = {"run": {**RUN, "model": text}, "benchmarks": {"counting": about}, "comparisons": {}}
    results["comparisons"] = {text: {"counting": {"differs": [text]}}}
    return write_report([Chosen("counting", benchmark, questions, text, 1)], results, folder).read_text()


def demo(text: str) -> str:
    """The demo's report of a world with `text` for every name and text."""
    picture = np.zeros((8, 8, 3), np.uint8)
    drawn = [({"prompt": text, "problem": text, "category": "counting", "correct": 0.0}, picture)]
    line = {"said": text, "correct": 0.0, "answer": text, "question": text}
    from demo.report.pictures import png_uri

    return page(
        text,
        sections.funnel_tables({text: [Funnel(text, 2, 1, {text: 1}, {text: 0})]}),
        sections.generated(drawn),
        sections.questions({text: [(line, png_uri(picture))]}),
        sections.caption_histogram(CaptionScores([0.1, 0.4], [0.0, 0.2]), 0.3),
    )


def pieces(text: str) -> str:
    """Every helper of a page, and its charts."""
    chart = svg.line_chart(text, {text: [(0.0, 1.0), (1.0, 2.0)]}, x_label=text)
    bars = svg.histogram(text, {text: [1.0, 2.0]}, x_label=text, marks=[(1.5, text)])
    return page(
        text,
        section(text, text, text),
        table([text], [[text]], numeric=[0]),
        stacked_bar([(text, 1, "red")]),
        image("data:image/png;base64,", text, title=text),
        tag("p", text, class_=text),
        Raw(shown(chart)),
        Raw(shown(bars)),
    )


def pages(folder: Path, text: str) -> dict[str, str]:
    return {"evaluation": evaluation(folder, text), "demo": demo(text), "pieces": pieces(text)}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_page_shows_what_others_wrote_and_runs_nothing(tmp_path: Path, text: str) -> None:
    for name, html in pages(tmp_path, text).items():
        found = Elements()
        found.feed(html)
        found.close()
        assert found.active == [], name
        assert any(shown(text) in one for one in found.text), name
        html.encode()


@pytest.mark.parametrize("text", HOSTILE[:-1], ids=range(len(HOSTILE) - 1))
def test_a_chart_of_its_own_is_data(text: str) -> None:
    """As Prefect's artifacts hold it."""
    chart = svg.standalone(svg.histogram(text, {text: [1.0, 2.0]}, x_label=text, marks=[(1.5, text)]))
    tree = ElementTree.fromstring(chart)
    names = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert names <= {"svg", "style", "rect", "text", "title", "line"}
    assert not any(key.startswith("on") or "href" in key for element in tree.iter() for key in element.attrib)
    assert text in [element.text for element in tree.iter()]


def test_the_parser_sees_what_is_active() -> None:
    for text in HOSTILE[:-2]:
        found = Elements()
        found.feed(f'<p title="{text}">{text}</p>')
        assert found.active, text


def in_browser(file: Path) -> str:
    """The document after a browser has loaded it."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    profile = f"--user-data-dir={file.parent / 'profile'}"
    try:
        done = subprocess.run(
            [*command, profile, file.as_uri()], capture_output=True, text=True, check=True, timeout=120
        )
    except FileNotFoundError:
        pytest.skip("needs chromium")
    return done.stdout


@pytest.mark.integration
def test_a_browser_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "control.html").write_text(f"<html><body><p>{HOSTILE[0]}</p></body></html>")
    assert 'data-owned="1"' in in_browser(tmp_path / "control.html").partition("<head>")[0]
    for number, text in enumerate(HOSTILE[:-1]):
        for name, html in pages(tmp_path, text).items():
            file = tmp_path / f"{number}-{name}.html"
            file.write_text(html)
            # Without the policy too: escaping has to do alone.
            for content in (html, html.replace(POLICY, "")):
                file.write_text(content)
                dumped = in_browser(file)
                assert "<main>" in dumped
                assert "data-owned" not in dumped.partition("<head>")[0], (number, name)
