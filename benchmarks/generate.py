"""Images per second of `janus.model.inference.sampling` beside the loop of transformers, on the same random weights.

    python -m benchmarks.generate                       # janus-1.3b in bf16 on a GPU
    python -m benchmarks.generate --preset tiny         # seconds on a CPU: shows that it runs

Both sides draw the codes of `batch` images with guidance 5 (two rows each) from prompts of one length; the VQ decoder,
which is the same, is timed on its own. The sides take turns, and medians are printed with their ratio (design D11).
The ceiling is memory traffic: per step the LLM's weights, the image head, and keys and values up to the present
length, divided by the copy bandwidth measured on this device.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable

import torch
from tokenizers import Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel
from transformers import JanusForConditionalGeneration, PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

from janus.model.device import cast, placement
from janus.model.inference.sampling import codes_to_images, image_prompt, sample_codes
from janus.model.inference.sampling_params import SamplingParams
from janus.model.network import Janus
from janus.model.presets import PRESETS, preset_config
from janus.model.processor import SPECIAL_TOKENS, Processor

SCALE = 5.0
PROMPT = "A photograph of a small red lighthouse on a rocky coast at dusk, waves breaking below it"


def make_model(preset: str, device: torch.device, dtype: torch.dtype) -> tuple[Janus, Processor]:
    """Random weights of a preset, and a processor whose tokens are bytes."""
    backend = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(sorted(ByteLevel.alphabet()))}, merges=[]))
    backend.pre_tokenizer, backend.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS.values()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL_TOKENS)
    config = preset_config(
        preset,
        image_token_id=tokenizer.convert_tokens_to_ids(tokenizer.image_token),
        tokenizer_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with device:
        model = Janus(config).eval()
    cast(model, dtype)
    return model, Processor.from_config(config, tokenizer, style=PRESETS[preset].style)


def transformers_model(model: Janus, processor: Processor) -> JanusForConditionalGeneration:
    """The plain class over the very same tensors."""
    with no_init_weights(), torch.device(model.device):
        plain = JanusForConditionalGeneration(copy.deepcopy(model.config))
    plain.model.vqmodel = model.model.vqmodel
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.model.language_model.config._attn_implementation = "sdpa"
    settings = plain.generation_config
    settings.pad_token_id, settings.bos_token_id = processor.pad_id, processor.bos_id
    settings.guidance_scale, settings.generation_kwargs = SCALE, {"boi_token_id": processor.boi_id}
    return plain.eval()


def bandwidth(device: torch.device) -> float:
    """Bytes per second of a large copy, reading and writing."""
    size = 2**30 if device.type == "cuda" else 2**27
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * size / statistics.median(seconds(lambda: target.copy_(source), device) for _ in range(7))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of `work`."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bound(model: Janus, processor: Processor, batch: int, prompt: int, bytes_per_second: float) -> float:
    """Images per second if only the necessary bytes moved."""
    text = model.config.text_config
    llm = model.model.language_model
    read_whole = [p for name, p in llm.named_parameters() if "embed_tokens" not in name]
    read_whole += list(model.model.generation_head.parameters())
    weights = sum(p.numel() * p.element_size() for p in read_whole)
    position = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * model.dtype.itemsize
    steps = processor.generation_tokens
    cached = sum(prompt + step for step in range(steps)) * position * 2 * batch
    return batch * bytes_per_second / (steps * weights + cached)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="janus-1.3b")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    device, dtype = placement(arguments.device)
    model, processor = make_model(arguments.preset, device, dtype)
    plain = transformers_model(model, processor)
    speed = bandwidth(device)
    row = image_prompt(processor, PROMPT, "plain")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    print(f"{arguments.preset}, {dtype}, {where}, torch {torch.__version__}, copy {speed / 1e9:.0f} GB/s")
    print(f"prompt {len(row)} tokens, {processor.generation_tokens} codes, guidance {SCALE:g}; images per second:")
    print("| batch | ours | transformers | ratio | bound | of the bound |")
    print("|---:|---:|---:|---:|---:|---:|")
    for batch in arguments.batches:
        ids = torch.tensor([row] * batch, device=device)

        def ours(batch: int = batch) -> torch.Tensor:
            return sample_codes(
                model,
                processor,
                [PROMPT] * batch,
                cfg_scale=SCALE,
                params=SamplingParams(),
                seeds=list(range(batch)),
                batch_size=batch,
            )

        def theirs(ids: torch.Tensor = ids) -> torch.Tensor:
            return plain.generate(ids, attention_mask=torch.ones_like(ids), generation_mode="image", do_sample=True)

        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        for turn in range(arguments.rounds + 1):
            for name, work in (("ours", ours), ("theirs", theirs)):
                spent = seconds(work, device)
                if turn:  # the first turn warms up
                    times[name].append(spent)
        mine, other = (batch / statistics.median(times[name]) for name in ("ours", "theirs"))
        ceiling = bound(model, processor, batch, len(row), speed)
        print(
            f"| {batch} | {mine:.3f} | {other:.3f} | {mine / other:.2f} | {ceiling:.3f} | {mine / ceiling:.0%} |",
            flush=True,
        )
    codes = torch.randint(model.config.vq_config.num_embeddings, (4, processor.generation_tokens))
    codes_to_images(model, codes)
    print(f"VQ decoder: {4 / seconds(lambda: codes_to_images(model, codes), device):.2f} images/s")


if __name__ == "__main__":
    main()
