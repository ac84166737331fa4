"""`python -m janus.evaluate.convert_detector`: GenEval's detector, from OpenMMLab's layout to transformers'.

GenEval's thresholds go with OpenMMLab's checkpoint `mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco`, which needs mmcv.
The architecture is that of transformers' Mask2Former; the layout differs in names, in query, key and value being one
matrix, and in the order in which a patch merging of Swin joins its four pixels. The converted folder is what
`--geneval.weights` takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from janus import cli
from schemas.files import atomic_folder

if TYPE_CHECKING:
    import torch
    from transformers import Mask2FormerConfig

PROG = "python -m janus.evaluate.convert_detector"
SOURCE = "OpenMMLab"
"""What the converted configuration says in `weights_from`."""

_NAMES_OF_CLASSES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,"
    "parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,"
    "suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,"
    "tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,"
    "hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,computer mouse,tv remote,"
    "computer keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,"
    "hair drier,toothbrush"
)
CLASSES = tuple(_NAMES_OF_CLASSES.split(","))
"""The 80 classes of COCO in the order of the detector's outputs, as GenEval's prompts call them."""

# (name in OpenMMLab's layout, name in transformers'), tried in order; {...} of the first stand in the second.
_BACKBONE = "model.pixel_level_module.encoder"
_PIXELS = "model.pixel_level_module.decoder"
_QUERIES = "model.transformer_module"
_BLOCK = rf"{_BACKBONE}.swin.encoder.layers.\1.blocks.\2"
_ENCODER = rf"{_PIXELS}.encoder.layers.\1"
_DECODER = rf"{_QUERIES}.decoder.layers.\1"
_NAMES = [
    (r"backbone\.patch_embed\.projection", f"{_BACKBONE}.swin.embeddings.patch_embeddings.projection"),
    (r"backbone\.patch_embed\.norm", f"{_BACKBONE}.swin.embeddings.norm"),
    (r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.norm1", f"{_BLOCK}.layernorm_before"),
    (r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.norm2", f"{_BLOCK}.layernorm_after"),
    (r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.attn\.w_msa\.proj", f"{_BLOCK}.attention.o_proj"),
    (
        r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.attn\.w_msa\.(?=relative_position_bias_table)",
        f"{_BLOCK}.attention.relative_position_bias.",
    ),
    (r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.ffn\.layers\.0\.0", f"{_BLOCK}.mlp.fc1"),
    (r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.ffn\.layers\.1", f"{_BLOCK}.mlp.fc2"),
    (r"backbone\.stages\.(\d+)\.downsample", rf"{_BACKBONE}.swin.encoder.layers.\1.downsample"),
    (r"panoptic_head\.pixel_decoder\.input_convs\.(\d+)\.conv", rf"{_PIXELS}.input_projections.\1.0"),
    (r"panoptic_head\.pixel_decoder\.input_convs\.(\d+)\.gn", rf"{_PIXELS}.input_projections.\1.1"),
    (r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.attentions\.0", f"{_ENCODER}.self_attn"),
    (r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.norms\.0", f"{_ENCODER}.self_attn_layer_norm"),
    (r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.norms\.1", f"{_ENCODER}.final_layer_norm"),
    (r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.ffns\.0\.layers\.0\.0", f"{_ENCODER}.fc1"),
    (r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.ffns\.0\.layers\.1", f"{_ENCODER}.fc2"),
    (r"panoptic_head\.pixel_decoder\.level_encoding\.weight", f"{_PIXELS}.level_embed"),
    (r"panoptic_head\.pixel_decoder\.lateral_convs\.0\.conv", f"{_PIXELS}.adapter_1.0"),
    (r"panoptic_head\.pixel_decoder\.lateral_convs\.0\.gn", f"{_PIXELS}.adapter_1.1"),
    (r"panoptic_head\.pixel_decoder\.output_convs\.0\.conv", f"{_PIXELS}.layer_1.0"),
    (r"panoptic_head\.pixel_decoder\.output_convs\.0\.gn", f"{_PIXELS}.layer_1.1"),
    (r"panoptic_head\.pixel_decoder\.mask_feature", f"{_PIXELS}.mask_projection"),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.attentions\.0\.attn", f"{_DECODER}.cross_attn"),
    (
        r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.attentions\.1\.attn\.out_proj",
        f"{_DECODER}.self_attn.out_proj",
    ),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.norms\.0", f"{_DECODER}.cross_attn_layer_norm"),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.norms\.1", f"{_DECODER}.self_attn_layer_norm"),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.norms\.2", f"{_DECODER}.final_layer_norm"),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.ffns\.0\.layers\.0\.0", f"{_DECODER}.fc1"),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.ffns\.0\.layers\.1", f"{_DECODER}.fc2"),
    (r"panoptic_head\.transformer_decoder\.post_norm", f"{_QUERIES}.decoder.layernorm"),
    (r"panoptic_head\.query_embed", f"{_QUERIES}.queries_embedder"),
    (r"panoptic_head\.query_feat", f"{_QUERIES}.queries_features"),
    (r"panoptic_head\.level_embed", f"{_QUERIES}.level_embed"),
    (r"panoptic_head\.cls_embed", "class_predictor"),
]
# Query, key and value in one matrix.
_JOINED = [
    (r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.attn\.w_msa\.qkv\.", f"{_BLOCK}.attention"),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.attentions\.1\.attn\.in_proj_", f"{_DECODER}.self_attn"),
]
_STAGE_NORM = re.compile(r"backbone\.norm(\d)\.(weight|bias)$")
_MASK_EMBED = re.compile(r"panoptic_head\.mask_embed\.(\d)\.(weight|bias)$")
UNUSED = (f"{_BACKBONE}.swin.layernorm.weight", f"{_BACKBONE}.swin.layernorm.bias", "criterion.empty_weight")
"""In transformers' model alone, and without part in what it detects."""


@dataclass(frozen=True)
class Arguments:
    """Convert OpenMMLab's mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco to a folder of transformers.

    python -m janus.evaluate.convert_detector mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco.pth DATA/detector
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """OpenMMLab's .pth file. It is read without running code in it."""
    out: Annotated[Path, tyro.conf.Positional]
    """Folder to write; it must not exist yet."""


def main() -> None:
    """Parse the command line and convert."""
    arguments = cli.parse(Arguments, prog=PROG)
    convert(arguments.checkpoint, arguments.out)
    cli.console().print(f"[green]wrote[/] {arguments.out}")


def detector_config() -> Mask2FormerConfig:
    """Mask2Former with Swin-S for the 80 classes of COCO, as in OpenMMLab's configuration of that name."""
    from transformers import Mask2FormerConfig, SwinConfig

    backbone = SwinConfig(
        embed_dim=96,
        depths=[2, 2, 18, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    names = dict(enumerate(CLASSES))
    config = Mask2FormerConfig(backbone_config=backbone, id2label=names, label2id={v: k for k, v in names.items()})
    config.weights_from = SOURCE
    return config


def convert(checkpoint: Path, out: Path) -> None:
    """Write the folder `out` from an OpenMMLab checkpoint: whole, or not at all.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: with one line.
    """
    import torch
    from transformers import Mask2FormerForUniversalSegmentation

    if out.exists():
        raise FileExistsError(f"{out}: exists already; choose another folder")
    state = read_checkpoint(checkpoint)
    try:
        weights = converted(state)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from None
    with torch.device("meta"):
        model = Mask2FormerForUniversalSegmentation(detector_config())
    expected = model.state_dict()
    for name, tensor in weights.items():
        if name in expected and tensor.shape != expected[name].shape:
            shapes = f"{list(tensor.shape)}, expected {list(expected[name].shape)}"
            raise ValueError(
                f"{checkpoint}: what becomes {name} has the shape {shapes}: not this detector (Swin-S, COCO)"
            )
    missing = expected.keys() - weights.keys() - set(UNUSED)
    unknown = weights.keys() - expected.keys()
    if missing or unknown:
        what = f"lacks {min(missing)}" if missing else f"has too much: {min(unknown)}"
        raise ValueError(f"{checkpoint}: {what} (name in transformers): not this detector (Swin-S, COCO)")
    model = Mask2FormerForUniversalSegmentation(detector_config())
    model.load_state_dict(weights, strict=False)
    with atomic_folder(out) as staging:
        model.save_pretrained(staging)


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of an OpenMMLab .pth. Raises ValueError or FileNotFoundError with one line."""
    import torch

    from janus.model.checkpoints.tensors import load_torch_file

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = load_torch_file(path)
    except ValueError as error:
        raise ValueError(f"{error}; it is not a checkpoint of tensors") from None
    state: Any = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a state_dict of tensors, as OpenMMLab publishes it")
    return dict(state)


def converted(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of an OpenMMLab checkpoint by their names in transformers.

    Raises ValueError naming a tensor that this architecture does not have.
    """
    result: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if not name.endswith(".relative_position_index"):  # follows from the window's size
            result.update((new, part.detach().clone().contiguous()) for new, part in _renamed(name, tensor))
    return result


def _renamed(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """A tensor, or the parts it is split into."""
    for pattern, new in _JOINED:
        if found := re.match(pattern, name):
            for one, part in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{found.expand(new)}.{one}_proj.{name[found.end() :]}", part
            return
    if found := _STAGE_NORM.match(name):
        yield f"{_BACKBONE}.hidden_states_norms.stage{int(found[1]) + 1}.{found[2]}", tensor
        return
    if found := _MASK_EMBED.match(name):  # Linear, ReLU, Linear, ReLU, Linear
        yield f"{_QUERIES}.decoder.mask_predictor.mask_embedder.{int(found[1]) // 2}.0.{found[2]}", tensor
        return
    for pattern, new in _NAMES:
        if found := re.match(pattern, name):
            if ".downsample." in name:
                tensor = _merging(tensor)
            yield found.expand(new) + name[found.end() :], tensor
            return
    raise ValueError(f"{name}: no tensor of Mask2Former with Swin in OpenMMLab's layout")


def _merging(tensor: torch.Tensor) -> torch.Tensor:
    """Inputs of a patch merging, last axis [..., 4C]: from (channel, row, column) to (column, row, channel).

    OpenMMLab joins the four pixels with `nn.Unfold`, channel by channel; transformers, as the authors of Swin, pixel by
    pixel: (0, 0), (1, 0), (0, 1), (1, 1).
    """
    *outer, inputs = tensor.shape
    pixels = tensor.reshape(*outer, inputs // 4, 2, 2)  # (..., C, row, column)
    return pixels.transpose(-3, -1).reshape(*outer, inputs)  # (..., column, row, C)


if __name__ == "__main__":
    cli.run(main)
