"""A plain Janus of a few hundred thousand weights, for tests against transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel
from transformers import JanusConfig, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig, PreTrainedTokenizerFast

from janus.model.network import Janus
from janus.model.processor import SPECIAL_TOKENS, Processor

ORDER = ("pad_token", "bos_token", "eos_token", "boi_token", "eoi_token", "image_token")
PAD, BOS, EOS, BOI, EOI, IMG = 256, 257, 258, 259, 260, 261
"""Ids in the tokenizer of `toy_tokenizer`: 256 bytes, then these."""
VOCABULARY = 264
SIDE, GRID, CODES = 64, 4, 128


def toy_config(**text: int) -> JanusConfig:
    """64-px images, 16 tokens and 16 codes each, 2 layers of 64."""
    return JanusConfig(
        text_config=LlamaConfig(
            **{
                "vocab_size": VOCABULARY,
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "max_position_embeddings": 512,
                "pad_token_id": PAD,
                "bos_token_id": BOS,
                "eos_token_id": EOS,
                **text,
            }
        ),
        vision_config=JanusVisionConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=SIDE,
            patch_size=SIDE // GRID,
            projection_dim=64,
            num_image_tokens=GRID**2,
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=8,
            num_embeddings=CODES,
            latent_channels=32,
            base_channels=32,
            num_res_blocks=1,
            projection_dim=64,
            image_token_embed_dim=64,
        ),
        image_token_id=IMG,
        tie_word_embeddings=False,
    )


@torch.no_grad()
def loud(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """`model` in evaluation mode with weights large enough that logits differ, and a unit-norm codebook."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 1.5 / fan_in**0.5)
        else:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    codebook = model.model.vqmodel.quantize.embedding.weight
    codebook.copy_(F.normalize(torch.randn(codebook.shape, generator=generator), dim=-1))
    return model.eval()


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens: any text, no training."""
    byte_level = Tokenizer(
        models.BPE(vocab={char: i for i, char in enumerate(sorted(ByteLevel.alphabet()))}, merges=[])
    )
    byte_level.pre_tokenizer = ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    byte_level.add_special_tokens([SPECIAL_TOKENS[name] for name in ORDER])
    return PreTrainedTokenizerFast(tokenizer_object=byte_level, **SPECIAL_TOKENS)


def toy_processor(config: JanusConfig, style: str = "janus") -> Processor:
    """The processor of a toy model."""
    return Processor.from_config(config, toy_tokenizer(), style=style)


def toy_janus(seed: int = 0, **text: int) -> tuple[Janus, Processor]:
    """Our network with random weights, and its processor."""
    config = toy_config(**text)
    return loud(Janus(config), seed), toy_processor(config)
