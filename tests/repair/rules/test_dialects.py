"""Each dialect is recognised by keys of its own, and by those of no plain model."""

from __future__ import annotations

import pytest

from sdviewer.repair.patterns import compile_pattern
from sdviewer.repair.rules import DIALECTS, recognised
from tests.repair.rules.tables import table

SAMPLES = {
    "torch.compile": ["blocks.0._orig_mod.fc.weight"],
    "averaged model": ["n_averaged", "module.fc.weight"],
    "DataParallel or DDP": ["module.fc.weight"],
    "activation checkpointing": ["blocks.0._checkpoint_wrapped_module.fc.weight"],
    "FSDP": ["_fsdp_wrapped_module.fc.weight"],
    "FSDP, flat parameters": ["blocks.0._flat_param"],
    "PEFT": ["base_model.model.fc.weight"],
    "LoRA": ["fc.lora_A.weight", "fc.lora_B.weight"],
    "Lightning": ["model.fc.weight", "loss.weight"],
    "EMA": ["model_ema.fcweight"],
    "old weight norm": ["conv.weight_g", "conv.weight_v"],
    "new weight norm": ["conv.parametrizations.weight.original0", "conv.parametrizations.weight.original1"],
    "old spectral norm": ["conv.weight_orig", "conv.weight_u", "conv.weight_v"],
    "new spectral norm": ["conv.parametrizations.weight.original", "conv.parametrizations.weight.0._u"],
    "pruning": ["fc.weight_orig", "fc.weight_mask"],
    "quantization-aware training": ["fc.weight_fake_quant.scale"],
    "quantized int8": ["fc._packed_params._packed_params"],
    "TF-ported BERT": ["bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.beta"],
    "timm ViT": ["blocks.0.attn.qkv.weight", "patch_embed.proj.weight"],
    "torchvision ResNet": ["conv1.weight", "layer1.0.conv1.weight", "layer4.0.bn1.weight"],
    "Llama of Meta": ["layers.0.attention.wq.weight", "layers.0.feed_forward.w1.weight"],
    "OpenAI CLIP": ["visual.transformer.resblocks.0.attn.in_proj_weight"],
    "latent diffusion": ["model.diffusion_model.input_blocks.1.0.in_layers.0.weight"],
    "latent diffusion VAE": ["first_stage_model.encoder.down.0.block.0.norm1.weight"],
    "transformers": ["bert.encoder.layer.0.output.dense.weight"],
    "diffusers": ["down_blocks.0.resnets.0.conv1.weight"],
}


def test_that_every_dialect_has_a_sample_here() -> None:
    assert [dialect.name for dialect in DIALECTS] == list(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_that_a_dialect_is_recognised(name: str) -> None:
    found = [one for one in recognised(table(SAMPLES[name])) if one.dialect.name == name]
    assert len(found) == 1
    assert found[0].n_keys >= 1
    assert found[0].dialect.says.endswith(".")


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_that_each_mark_is_needed(dialect: object) -> None:
    assert isinstance(dialect, type(DIALECTS[0]))
    keys = SAMPLES[dialect.name]
    for mark in dialect.marks:
        left = [key for key in keys if not compile_pattern(mark).matches(key)]
        assert dialect not in [one.dialect for one in recognised(table(left))]


def test_that_an_averaged_model_is_not_taken_for_a_parallel_one() -> None:
    assert [one.dialect.name for one in recognised(table(SAMPLES["averaged model"]))] == ["averaged model"]


def test_that_a_plain_model_speaks_no_dialect() -> None:
    assert recognised(table(["stem.weight", "stem.bias", "blocks.0.fc.weight", "head.weight"])) == ()
