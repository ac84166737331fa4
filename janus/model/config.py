"""Configurations: which parts a Janus is made of.

A Janus whose vision encoder and VQ tokenizer are the published ones is a plain `JanusConfig`, whatever its LLM, and
opens in `transformers`. Any other combination is a `JanusForgeConfig`: the same fields under its own `model_type`, so
that `transformers` refuses it by name instead of loading half of it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import AutoConfig, JanusConfig, JanusVisionConfig, JanusVQVAEConfig, PretrainedConfig
from transformers.configuration_utils import SubConfigSpec

PATCH_VQ = "patch"
"""Value of `vq_config.architecture` that asks for `janus.model.patch_vq.PatchVQ`."""


class JanusForgeConfig(JanusConfig):
    """A Janus with a vision encoder or VQ tokenizer that `transformers` would not put there."""

    model_type = "janus_forge"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="janus_vision_model"),
        "vq_config": JanusVQVAEConfig,
    }

    def __post_init__(self, **kwargs: Any) -> None:
        """Keep the VQ grid: `JanusConfig` overwrites it with the vision encoder's, which need not be the same."""
        grid = _num_patches(self.vq_config)
        super().__post_init__(**kwargs)
        if grid is not None:
            self.vq_config.num_patches = grid


def _num_patches(vq_config: dict[str, Any] | PretrainedConfig | None) -> int | None:
    if isinstance(vq_config, dict):
        return vq_config.get("num_patches")
    return None if vq_config is None else vq_config.num_patches


def make_config(
    *,
    text: PretrainedConfig,
    vision: PretrainedConfig,
    vq: JanusVQVAEConfig,
    image_token_id: int,
) -> JanusConfig:
    """The configuration of a Janus made of these parts, with every width that must agree set from the LLM's.

    `vision` is a `JanusVisionConfig` or the config of any image encoder `AutoModel` knows. Its `num_image_tokens` is
    set to the patch grid: encoders that put class or register tokens first keep them to themselves.

    Raises ValueError if the encoder's patches do not tile its image, or the codes do not.
    """
    side, patch = vision.image_size, vision.patch_size
    if side % patch:
        raise ValueError(f"image side {side} is not a multiple of the vision encoder's patch size {patch}")
    width = text.hidden_size
    vision.projection_dim = width
    vision.depth = getattr(vision, "depth", 2)
    vision.num_image_tokens = (side // patch) ** 2
    if hasattr(vision, "vision_use_head"):
        vision.vision_use_head = False  # SigLIP's pooling head: Janus takes the patch features, so it would never train
    vq.projection_dim = vq.image_token_embed_dim = width
    if getattr(vq, "architecture", None) != PATCH_VQ:
        factor = 2 ** (len(vq.channel_multiplier) - 1)
        if side % factor:
            raise ValueError(f"image side {side} is not a multiple of {factor}, the VQ tokenizer's downsampling")
        vq.num_patches = side // factor
    plain = isinstance(vision, JanusVisionConfig) and not getattr(vq, "architecture", None)
    # JanusConfig derives the VQ grid from the vision patches: right only where the two agree.
    plain = plain and vq.num_patches == side // patch
    make = JanusConfig if plain else JanusForgeConfig
    return make(
        text_config=text, vision_config=vision, vq_config=vq, image_token_id=image_token_id, tie_word_embeddings=False
    )


def foreign_parts(config: JanusConfig) -> list[str]:
    """What keeps this model from opening in plain `transformers`, one phrase per part; empty for a plain Janus."""
    parts = []
    if not isinstance(config.vision_config, JanusVisionConfig):
        parts.append(f"vision encoder {config.vision_config.model_type} (a Janus there has SigLIP)")
    if getattr(config.vq_config, "architecture", None):
        parts.append(f"VQ tokenizer {config.vq_config.architecture} (there, VQ-16)")
    elif isinstance(config, JanusForgeConfig) and not parts:
        parts.append("a VQ grid that differs from the vision encoder's patch grid (there, the two are one)")
    return parts


def config_from_dict(values: dict[str, Any], *, where: str = "config.json") -> JanusConfig:
    """The configuration a `config.json` holds. Raises ValueError naming `where` for another model type, or nonsense."""
    kinds = {"janus": JanusConfig, "janus_forge": JanusForgeConfig}
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"{where}: model_type {kind!r} is not a Janus (janus, janus_forge or multi_modality)")
    try:
        return kinds[kind].from_dict(values)
    except Exception as error:  # transformers raises whatever a field of another type leads to
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{where}: not the configuration of a Janus: {reason}") from None
