"""A LLaVA of random weights in its true layout: an image-text model of transformers that is none of ours."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from tests.model.toy import toy_tokenizer


def write_llava(folder: Path) -> Path:
    """Write it; returns `folder`. Its chat template is image mark, question and a colon."""
    tokenizer = toy_tokenizer()
    image = "<image_placeholder>"
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**small, image_size=32, patch_size=8),
        text_config=LlamaConfig(**small, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id),
        image_token_index=tokenizer.convert_tokens_to_ids(image),
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 10  # so that answers depend on the picture
    model.save_pretrained(folder)
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32), tokenizer, patch_size=8,
        vision_feature_select_strategy="default", image_token=image, num_additional_image_tokens=1,
        chat_template="{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}" + image
        + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}:",
    )  # fmt: skip
    processor.save_pretrained(folder)
    return folder
