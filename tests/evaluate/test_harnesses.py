"""What the adapters to other programs share; the adapters themselves: test_lmms_eval.py and test_vlmevalkit.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from janus.evaluate.benchmarks import pope
from janus.evaluate.harnesses.asking import answers, user_turn
from janus.evaluate.prompts import prompt_templates
from janus.evaluate.subject import load_subject
from janus.model.inference.sampling_params import SamplingParams
from tests.evaluate.test_run import lines, main
from tests.evaluate.worlds import write_data, write_model


def test_pictures_come_first_unless_the_text_says_where_they_stand() -> None:
    assert user_turn("what is it?", 2).text == "<image><image>\nwhat is it?"
    assert user_turn("is <image> like <image>?", 2).text == "is <image> like <image>?"
    assert user_turn("why?", 0).text == "why?"
    with pytest.raises(ValueError, match="1 <image> marks in the text, but 2 pictures"):
        user_turn("is <image> like the other?", 2)


def test_answers_are_those_of_an_evaluation(tmp_path: Path) -> None:
    model, data = write_model(tmp_path / "model"), write_data(tmp_path / "data", pictures=2)
    words = ["--model", model, "--data", data, "--out", tmp_path / "out", "--benchmarks", "pope"]
    main([str(word) for word in [*words, "--batch-size", 4, "--device", "cpu"]])
    expected = {row["id"]: row["said"] for row in lines(tmp_path / "out" / "pope" / "rows.jsonl")}

    subject, own = load_subject(str(model), "cpu")
    prompts, questions = prompt_templates(own, {}), pope.Benchmark().read(data)
    said: dict[str, str] = {}
    answers(
        subject,
        [[user_turn(prompts.put("yes_no", question.text, {}), 1)] for question in questions],
        lambda index: [picture.open() for picture in questions[index].pictures],
        max_new_tokens=prompts.max_new_tokens,
        params=SamplingParams(temperature=0.0),
        seeds=range(len(questions)),
        batch_size=4,
        on_answer=lambda index, text: said.update({questions[index].id: text}),
    )
    assert said == expected
    assert len(set(said.values())) > 1
    with pytest.raises(ValueError, match=r"question 0: its prompt has \d+ tokens, and the model reads \d+"):
        answers(
            subject,
            [[user_turn("word " * 5000, 0)]],
            lambda _: [],
            max_new_tokens=1,
            params=SamplingParams(temperature=0.0),
            seeds=[0],
            batch_size=1,
            on_answer=lambda *_: None,
        )


def test_a_type_of_weights_that_there_is_not_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype 'float16': expected auto, bfloat16 or float32"):
        load_subject(str(tmp_path), "cpu", "float16")
