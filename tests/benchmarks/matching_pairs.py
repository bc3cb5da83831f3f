"""Pairs of layouts whose correspondence is known: of transformers' models as published and as in memory.

    python tests/benchmarks/matching_pairs.py OUT.json

Models are built on the meta device, their keys turned back into those of the published files by transformers' own
conversion code, and the truth is what the same code makes of each such key. Nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

MODELS = (
    "vit", "swin", "dinov2", "mixtral", "olmoe", "qwen2_moe", "deepseek_v3", "qwen2_vl", "llava", "segformer", "gte",
    "videomae", "rt_detr_v2", "grounding-dino", "zoedepth", "yolos", "voxtral", "gemma3", "nomic_bert", "mimo_v2_flash",
)  # fmt: skip
"""Of each family of conversions some: renamings, fused projections, stacked experts, several modalities."""


def pair(model_type: str) -> dict[str, Any]:
    """One model: `source` and `target` {key: shape}, and `map` {source key: target keys}."""
    import torch
    import transformers
    from transformers import conversion_mapping, core_model_loading
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    tables = (
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
        modeling_auto.MODEL_MAPPING_NAMES,
    )
    names = next(table[model_type] for table in tables if model_type in table)
    with torch.device("meta"):
        model = getattr(transformers, names if isinstance(names, str) else names[0])(CONFIG_MAPPING[model_type]())
    target = {key: value for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    published = core_model_loading.revert_weight_conversion(model, dict(target))
    conversions = conversion_mapping.get_model_conversion_mapping(model)
    renamings = [one for one in conversions if isinstance(one, core_model_loading.WeightRenaming)]
    converters = [one for one in conversions if isinstance(one, core_model_loading.WeightConverter)]
    by_pattern = {pattern: one for one in converters for pattern in one.source_patterns}
    truth: dict[str, list[str]] = {}
    for key in published:
        first, pattern = core_model_loading.rename_source_key(
            key, renamings, converters, model.base_model_prefix, target
        )
        many = by_pattern[pattern].target_patterns if pattern else [""]
        truth[key] = [first.replace(many[0], one, 1) if one else first for one in many]
        if any(other not in target for other in truth[key]):
            raise KeyError(f"{key} became {truth[key]}, which the model lacks")
    place = {key: at for at, key in enumerate(target)}
    ordered = sorted(truth, key=lambda key: (place[truth[key][0]], core_model_loading.dot_natural_key(key)))
    return {
        "name": model_type,
        "source": {key: list(published[key].shape) for key in ordered},
        "target": {key: list(value.shape) for key, value in target.items()},
        "map": truth,
    }


def main(out: str) -> None:
    """Write all pairs that this version of transformers can build."""
    warnings.simplefilter("ignore")
    found = []
    for model_type in MODELS:
        try:
            found.append(pair(model_type))
        except Exception as error:  # What a version of the library cannot build is left out, and said.
            print(f"{model_type}: {type(error).__name__}: {str(error)[:80]}", file=sys.stderr)
    Path(out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
