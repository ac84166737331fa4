"""Image sampling against transformers' own `generate`, and its promises: one seed one image, no padding effects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from janus.model.inference.guidance import null_prompt
from janus.model.inference.sampling import codes_to_images, image_prompt, sample_codes, sample_images
from janus.model.inference.sampling_params import SamplingParams
from janus.model.network import Janus
from janus.model.processor import Processor
from tests.model.toy import BOI, BOS, CODES, GRID, PAD, SIDE, toy_janus

PROMPTS = ["a red fish", "two blue squares left of a very small green triangle", "x"]
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def toy() -> tuple[Janus, Processor]:
    return toy_janus()


def transformers_codes(model: Janus, processor: Processor, prompts: list[str], scale: float) -> torch.Tensor:
    """`JanusForConditionalGeneration.generate` on a left-padded batch."""
    rows = [image_prompt(processor, prompt, "plain") for prompt in prompts]
    width = max(map(len, rows))
    ids = torch.tensor([[PAD] * (width - len(row)) + row for row in rows])
    attend = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    settings = model.generation_config
    settings.pad_token_id, settings.bos_token_id, settings.guidance_scale = PAD, BOS, scale
    settings.generation_kwargs = {"boi_token_id": BOI}
    return model.generate(ids, attention_mask=attend, generation_mode="image", do_sample=False)


def test_greedy_codes_with_guidance_equal_transformers(toy: tuple[Janus, Processor]) -> None:
    model, processor = toy
    ours = sample_codes(model, processor, PROMPTS, cfg_scale=5.0, params=GREEDY, seeds=[0, 0, 0])
    assert torch.equal(ours, transformers_codes(model, processor, PROMPTS, 5.0))
    assert len(ours.unique()) > 8  # not one code over and over


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_codes_follow_from_teacher_forced_logits(toy: tuple[Janus, Processor], scale: float) -> None:
    """Each code is the argmax of l_u + s (l_c - l_u) over a full pass without any cache; scale 1 is l_c alone."""
    model, processor = toy
    codes = sample_codes(model, processor, PROMPTS[:1], cfg_scale=scale, params=GREEDY, seeds=[0])
    prompt = image_prompt(processor, PROMPTS[0], "plain")
    logits = []
    for row in (prompt, [BOS, *[PAD] * (len(prompt) - 2), BOI]):
        words = model.get_input_embeddings()(torch.tensor([row]))
        drawn = model.prepare_embeddings_for_image_generation(codes[:, :-1])
        hidden = model.model.language_model(
            inputs_embeds=torch.cat([words, drawn], 1), use_cache=False
        ).last_hidden_state
        logits.append(model.model.generation_head(hidden[:, len(row) - 1 :]))
    guided = logits[1] + scale * (logits[0] - logits[1])
    assert torch.equal(guided.argmax(-1), codes)


def test_an_image_does_not_depend_on_its_batch(toy: tuple[Janus, Processor]) -> None:
    model, processor = toy
    seeds = [11, 12, 13]

    def codes(order: list[int], batch_size: int) -> torch.Tensor:
        drawn = sample_codes(
            model,
            processor,
            [PROMPTS[i] for i in order],
            cfg_scale=3.0,
            params=SamplingParams(top_k=60, top_p=0.95),
            seeds=[seeds[i] for i in order],
            batch_size=batch_size,
        )
        return drawn[[order.index(i) for i in sorted(order)]]

    together = codes([0, 1, 2], 8)
    assert torch.equal(codes([2, 0, 1], 8), together)
    assert torch.equal(codes([0, 1, 2], 1), together)
    for i in range(3):
        assert torch.equal(codes([i], 8), together[i : i + 1])


def test_seeds_make_the_difference(toy: tuple[Janus, Processor]) -> None:
    model, processor = toy
    codes = sample_codes(model, processor, [PROMPTS[0]] * 3, params=SamplingParams(), seeds=[1, 2, 1], cfg_scale=2.0)
    assert torch.equal(codes[0], codes[2])
    assert not torch.equal(codes[0], codes[1])


def test_the_null_condition_pads_strictly_between_bos_and_boi(toy: tuple[Janus, Processor]) -> None:
    _, processor = toy
    for template in ("plain", "chat"):
        prompt = image_prompt(processor, "a fish", template)
        null = null_prompt(prompt, processor.pad_id)
        assert (prompt[0], prompt[-1]) == (BOS, BOI) == (null[0], null[-1])
        assert set(null[1:-1]) == {PAD}
        assert len(null) == len(prompt)
        assert prompt.count(BOI) == 1


def test_a_prompt_is_the_training_rows_beginning(toy: tuple[Janus, Processor]) -> None:
    _, processor = toy
    assert processor.decode(image_prompt(processor, "a fish", "plain")) == "a fish"
    assert processor.decode(image_prompt(processor, "a fish", "chat")) == "User: a fish\n\nAssistant:"


def test_images_are_the_decoded_codes(toy: tuple[Janus, Processor]) -> None:
    model, processor = toy
    seen: list[int] = []
    images = sample_images(model, processor, PROMPTS, seeds=[4, 5, 6], batch_size=1, on_progress=seen.append)
    codes = sample_codes(model, processor, PROMPTS, params=SamplingParams(), seeds=[4, 5, 6])
    assert images.shape == (3, SIDE, SIDE, 3)
    assert seen == [1, 2, 3]
    np.testing.assert_array_equal(images, codes_to_images(model, codes))
    with torch.no_grad():
        decoded = torch.cat([model.decode_image_tokens(one) for one in codes.split(1)]).numpy()
    np.testing.assert_array_equal(images, np.clip((decoded + 1) / 2 * 255, 0, 255).astype(np.uint8))


def test_codes_are_in_range_and_complete(toy: tuple[Janus, Processor]) -> None:
    model, processor = toy
    codes = sample_codes(model, processor, PROMPTS, params=SamplingParams(temperature=2.0), seeds=[1, 2, 3])
    assert codes.shape == (3, GRID**2)
    assert 0 <= int(codes.min()) <= int(codes.max()) < CODES


def test_one_seed_per_prompt(toy: tuple[Janus, Processor]) -> None:
    with pytest.raises(ValueError, match="3 prompts but 1 seeds"):
        sample_images(*toy, PROMPTS, seeds=[1])


def test_no_prompts_no_images(toy: tuple[Janus, Processor]) -> None:
    assert sample_images(*toy, [], seeds=[]).shape == (0, SIDE, SIDE, 3)
