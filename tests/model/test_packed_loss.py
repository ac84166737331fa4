"""The training forward: packed = unpacked, isolation, every code supervised, heads at their own labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from transformers import JanusConfig, JanusForConditionalGeneration, Qwen3Config

from janus.model.loss import token_losses
from janus.model.network import Janus, normalize
from janus.packed import TASK_IDS, PackedBatch
from tests.model import packs
from tests.model.packs import N, alone, generation, pack, text, understanding
from tests.model.toy import BOI, CODES, IMG, VOCABULARY, loud, toy_config

UND, TEXT, GEN = (TASK_IDS[task] for task in ("understanding", "text", "generation"))
ROWS = [
    [understanding(5, 1), text(7, 2), generation(4, 3)],
    [generation(3, 4), text(20, 5), understanding(9, 6)],
]
LENGTH = 84


@pytest.fixture(scope="module")
def janus() -> Janus:
    torch.manual_seed(0)
    return loud(Janus(toy_config()))


@pytest.fixture(autouse=True)
def _no_gradients_left(janus: Janus) -> Iterator[None]:
    janus.zero_grad(set_to_none=True)
    yield
    janus.zero_grad(set_to_none=True)


def hidden_states(model: Janus, batch: PackedBatch) -> torch.Tensor:
    """[B*L, H] as the training forward sees them."""
    seen: list[torch.Tensor] = []
    hook = model.model.language_model.register_forward_hook(lambda _m, _a, out: seen.append(out.last_hidden_state))
    try:
        model.packed_loss(batch)
    finally:
        hook.remove()
    return seen[0].flatten(0, 1)


def gradients(model: Janus) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_packed_equals_unpacked_loss_and_gradients(janus: Janus) -> None:
    packed = janus.packed_loss(pack(ROWS, LENGTH))
    packed.sums.sum().backward()
    together = gradients(janus)

    janus.zero_grad(set_to_none=True)
    parts = [janus.packed_loss(alone(document)) for row in ROWS for document in row]
    sum(part.sums.sum() for part in parts).backward()

    torch.testing.assert_close(packed.sums, sum(part.sums for part in parts), rtol=1e-5, atol=1e-5)
    assert torch.equal(packed.counts, sum(part.counts for part in parts))
    separate = gradients(janus)
    assert together.keys() == separate.keys()
    for name, gradient in together.items():
        scale = separate[name].abs().max().clamp(min=1.0)
        torch.testing.assert_close(gradient / scale, separate[name] / scale, rtol=0, atol=1e-5, msg=name)


def test_packed_equals_unpacked_hidden_states(janus: Janus) -> None:
    with torch.no_grad():
        packed = hidden_states(janus, pack(ROWS, LENGTH))
        for number, row in enumerate(ROWS):
            start = number * LENGTH
            for document in row:
                size = len(document.ids)
                expected = hidden_states(janus, alone(document))
                torch.testing.assert_close(packed[start : start + size], expected, rtol=0, atol=1e-5)
                start += size


def test_changing_one_document_changes_no_other(janus: Janus) -> None:
    with torch.no_grad():
        before = hidden_states(janus, pack(ROWS, LENGTH))
        changed = [[ROWS[0][0], text(7, 99), ROWS[0][2]], ROWS[1]]
        after = hidden_states(janus, pack(changed, LENGTH))
    start, size = len(ROWS[0][0].ids), len(ROWS[0][1].ids)
    same = torch.ones(len(before), dtype=torch.bool)
    same[start : start + size] = False
    assert torch.equal(before[same], after[same])
    assert not torch.allclose(before[~same], after[~same])


def test_trap_3_position_ids_alone_do_not_isolate(janus: Janus) -> None:
    """With the cache allowed, transformers lets packed documents see each other, whatever their positions."""
    first, second = text(6, 1), text(6, 2)
    both = pack([[first, second]], len(first.ids) + len(second.ids))
    reference = JanusForConditionalGeneration(toy_config()).eval()
    reference.load_state_dict(janus.state_dict())
    llm = reference.model.language_model
    with torch.no_grad():
        naive = llm(input_ids=both.input_ids, position_ids=both.position_ids).last_hidden_state[0, len(first.ids) :]
        ours = hidden_states(janus, both)[len(first.ids) :]
        expected = hidden_states(janus, alone(second))
    assert (naive - expected).abs().max() > 1e-2
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_loss_equals_transformers_modules_one_document_at_a_time(janus: Janus) -> None:
    """Against plain HF forward and an independent image loss (trap 5: HF has none)."""
    reference = JanusForConditionalGeneration(toy_config()).eval()
    reference.load_state_dict(janus.state_dict())
    sums = torch.zeros(3)
    with torch.no_grad():
        for row in ROWS:
            for document in row:
                ids = torch.tensor([document.ids])
                if document.task == "generation":
                    codes = document.codes[0][None]
                    first = document.code_positions[0]
                    words = reference.get_input_embeddings()(ids[:, :first])
                    inputs = torch.cat([words, reference.prepare_embeddings_for_image_generation(codes)], dim=1)
                    states = reference.model.language_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
                    logits = reference.model.generation_head(states[0, first - 1 : first - 1 + N])
                    sums[GEN] += F.cross_entropy(logits, codes[0], reduction="sum")
                    continue
                images = normalize(torch.stack(document.pixels)) if document.pixels else None
                logits = reference(input_ids=ids, pixel_values=images, use_cache=False).logits[0]
                labels = torch.tensor([document.ids[k + 1] for k in document.labels])
                sums[TASK_IDS[document.task]] += F.cross_entropy(logits[document.labels], labels, reduction="sum")
        torch.testing.assert_close(janus.packed_loss(pack(ROWS, LENGTH)).sums, sums, rtol=1e-5, atol=1e-4)


def test_trap_4_every_code_is_supervised_and_begin_of_image_predicts_code_0(janus: Janus) -> None:
    document = generation(4, 3)
    batch = alone(document)
    base = janus.packed_loss(batch)
    assert base.counts.tolist() == [0, 0, N]
    seen: list[torch.Tensor] = []
    hook = janus.model.generation_head.register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    states = hidden_states(janus, batch)
    hook.remove()
    first = document.code_positions[0]
    assert document.ids[first - 1] == BOI
    torch.testing.assert_close(seen[0], states[first - 1 : first - 1 + N], rtol=0, atol=1e-6)
    # Each code has a label of its own: changing any one of them changes the loss, the first and the last too.
    # (The last is nobody's input, so for it the change is exactly that of its own label.)
    logits = janus.model.generation_head(states)
    for k in (0, N - 1):
        codes = batch.codes.clone()
        codes[0, k] = (codes[0, k] + 1) % CODES
        other = janus.packed_loss(replace(batch, codes=codes))
        row = logits[first - 1 + k]
        own = F.cross_entropy(row, codes[0, k]) - F.cross_entropy(row, batch.codes[0, k])
        assert other.sums[GEN] != base.sums[GEN]
        if k == N - 1:
            torch.testing.assert_close(other.sums[GEN] - base.sums[GEN], own, rtol=1e-4, atol=1e-4)


def test_heads_run_at_their_own_labels_only(janus: Janus) -> None:
    calls: dict[str, int] = {"text": 0, "image": 0}
    hooks = [
        janus.lm_head.register_forward_hook(lambda _m, a, _o: calls.update(text=calls["text"] + len(a[0]))),
        janus.model.generation_head.register_forward_hook(
            lambda _m, a, _o: calls.update(image=calls["image"] + len(a[0]))
        ),
    ]
    counts = janus.packed_loss(pack(ROWS, LENGTH)).counts
    for hook in hooks:
        hook.remove()
    assert calls == {"text": int(counts[UND] + counts[TEXT]), "image": int(counts[GEN])}


def test_what_stands_at_an_image_position_is_the_adaptor_not_the_text_embedding(janus: Janus) -> None:
    """Image codes never pass through the text embedding: its row for the placeholder can be anything."""
    batch = pack(ROWS, LENGTH)
    before = janus.packed_loss(batch).sums.detach()
    with torch.no_grad():
        row = janus.get_input_embeddings().weight[IMG].clone()
        janus.get_input_embeddings().weight[IMG] += 100.0
        after = janus.packed_loss(batch).sums
        janus.get_input_embeddings().weight[IMG] = row
    assert torch.equal(before, after)


@pytest.mark.parametrize("rows", [[[text(7, 2)]], [[understanding(5, 1)]], [[generation(4, 3)]]])
def test_a_batch_of_one_task_gives_every_trainable_parameter_a_gradient(
    janus: Janus, rows: list[list[packs.Document]]
) -> None:
    """Otherwise DDP waits for ever for the ranks that had an image, and FSDP for their collectives."""
    batch = pack(rows, 40)
    janus.packed_loss(batch).sums.sum().backward()
    without = [name for name, p in janus.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    idle = {"text": "model.vision_model", "understanding": "model.generation_head", "generation": "lm_head"}
    for parameter in janus.get_submodule(idle[batch.tasks[0]]).parameters():
        assert not parameter.grad.any()


def test_labels_in_chunks_change_nothing(janus: Janus, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pack(ROWS, LENGTH)
    whole = janus.packed_loss(batch)
    whole.sums.sum().backward()
    expected = gradients(janus)
    janus.zero_grad(set_to_none=True)
    monkeypatch.setattr("janus.model.network.token_losses", lambda *a, **k: token_losses(*a, **k, chunk_logits=600))
    chunked = janus.packed_loss(batch)
    chunked.sums.sum().backward()
    torch.testing.assert_close(chunked.sums, whole.sums)
    for name, gradient in gradients(janus).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-4, msg=name)


def test_gradient_checkpointing_keeps_documents_apart(janus: Janus) -> None:
    batch = pack(ROWS, LENGTH)
    janus.packed_loss(batch).sums.sum().backward()
    expected = gradients(janus)
    janus.zero_grad(set_to_none=True)
    janus.model.language_model.activation_checkpointing_enable({"use_reentrant": False})
    janus.train()
    try:
        janus.packed_loss(batch).sums.sum().backward()
    finally:
        janus.model.language_model.activation_checkpointing_disable()
        janus.eval()
    for name, gradient in gradients(janus).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5, msg=name)


def test_bf16_autocast_is_near_fp32(janus: Janus) -> None:
    batch = pack(ROWS, LENGTH)
    exact = janus.packed_loss(batch).sums
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = janus.packed_loss(batch).sums
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.5)


def qwen_config() -> JanusConfig:
    """Another family of LLMs: grouped queries, query and key norms, tied embeddings, one layer with a short window."""
    config = toy_config()
    config.text_config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        tie_word_embeddings=True,
        use_sliding_window=True,
        sliding_window=8,
        max_window_layers=1,
    )
    return config


def test_another_language_model_packs_as_exactly() -> None:
    model = loud(Janus(qwen_config()))
    packed = model.packed_loss(pack(ROWS, LENGTH)).sums
    separate = sum(model.packed_loss(alone(document)).sums for row in ROWS for document in row)
    torch.testing.assert_close(packed, separate, rtol=1e-5, atol=1e-4)
    # And the same as the family's own code, windows and all.
    document = ROWS[1][1]
    reference = JanusForConditionalGeneration(qwen_config()).eval()
    reference.load_state_dict(model.state_dict())
    ids = torch.tensor([document.ids])
    with torch.no_grad():
        logits = reference(input_ids=ids, use_cache=False).logits[0]
    expected = F.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum")
    torch.testing.assert_close(model.packed_loss(alone(document)).sums[TEXT], expected, rtol=1e-5, atol=1e-4)
