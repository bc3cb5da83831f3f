"""Integers that stand for weights, and the scales and zero points that they are read with.

Layouts: GPTQ packs along the inputs (`qweight` is (in / n, out), with `g_idx`), AWQ along the outputs ((in, out / n));
both keep `scales` as (groups, out). bitsandbytes keeps `absmax` and `quant_map` below the weight, or `SCB` beside it.
8-bit floats come with `weight_scale`, or blocks of 128 x 128 with `weight_scale_inv`. MXFP4 keeps `_blocks` of two
values a byte and `_scales` of 32 values each.
"""

from __future__ import annotations

from sdviewer.core import text
from sdviewer.core.roles.role import Place, TensorRole

_BITS = (2, 3, 4, 8)
_OF_BITSANDBYTES = {
    "absmax": ("scale", "bitsandbytes scales, one a block"),
    "quant_map": ("scale", "bitsandbytes code book"),
    "nested_absmax": ("scale", "bitsandbytes scales of the scales"),
    "nested_quant_map": ("scale", "bitsandbytes code book of the scales"),
}
_OBSERVERS = ("activation_post_process", "weight_fake_quant", "_fake_quant")


def guess(place: Place) -> TensorRole | None:
    """What is packed, and what it takes to unpack it."""
    return _whole(place) or _packed(place) or _bitsandbytes(place) or _scaled(place) or _of_torch(place)


def _whole(place: Place) -> TensorRole | None:
    quant = place.info.quant
    if place.info.kind != "quantized" or not quant:
        return None
    scheme = str(quant.get("qscheme", ""))
    words = "one scale a channel" if "channel" in scheme else "one scale for all" if "tensor" in scheme else ""
    return TensorRole(words, "packed", related=place.related(("bias", "bias")))


def _packed(place: Place) -> TensorRole | None:
    """GPTQ and AWQ: four tensors of one layer."""
    packed, scales = place.beside("qweight"), place.beside("scales")
    if packed is None or scales is None or len(packed) != 2 or len(scales) != 2:
        return None
    groups, out = scales
    if packed[1] == out:
        scheme, inputs, bits = "GPTQ", *_of_gptq(place, packed, groups)
    elif packed[1] and out % packed[1] == 0 and 32 * packed[1] // out in _BITS:
        scheme, inputs, bits = "AWQ", packed[0], 32 * packed[1] // out
    else:
        return None
    others = [name for name in ("qweight", "scales", "qzeros", "g_idx", "bias") if name != place.name]
    related = place.related(*((_SHORT[name], name) for name in others))
    if place.name == "qweight":
        sizes = f", {text.count(inputs)} in, {text.count(out)} out" if inputs else ""
        return TensorRole(f"{scheme} weight, {f'{bits} bits' if bits else 'packed'}{sizes}", "packed", related=related)
    if place.name == "scales":
        each = f", one for {text.count(inputs // groups)} inputs" if groups and inputs % groups == 0 and inputs else ""
        return TensorRole(f"{scheme} scales{each}", "scale", related=related)
    if place.name == "qzeros":
        return TensorRole(f"{scheme} zero points, packed", "zero point", related=related)
    if place.name == "g_idx" and len(place.shape) == 1:
        return TensorRole("GPTQ group of each input", "buffer", related=related)
    return None


_SHORT = {"qweight": "packed weight", "scales": "scales", "qzeros": "zero points", "g_idx": "groups", "bias": "bias"}


def _of_gptq(place: Place, packed: tuple[int, ...], groups: int) -> tuple[int, int]:
    """How many inputs and bits: the index of groups has one entry an input; else nothing is known of either."""
    index = place.beside("g_idx")
    if index is not None and len(index) == 1 and index[0] and 32 * packed[0] % index[0] == 0:
        return index[0], 32 * packed[0] // index[0]
    return 0, 0


def _bitsandbytes(place: Place) -> TensorRole | None:
    if place.layer == "weight" and place.name in _OF_BITSANDBYTES and "." in place.key:
        kind, words = _OF_BITSANDBYTES[place.name]
        related = place.related_at(("packed weight", place.module))
        if not related:
            return None
        return TensorRole(words, "scale", related=related) if kind == "scale" else None
    if place.layer == "quant_state" and place.name.startswith("bitsandbytes__"):
        return TensorRole("bitsandbytes settings, as text", "buffer")
    if place.name == "weight":
        below = place.key + "."
        if f"{below}absmax" in place.keys.index:
            related = place.related_at(("scales", f"{below}absmax"), ("code book", f"{below}quant_map"))
            return TensorRole("bitsandbytes weight, 4 bits, packed", "packed", related=related)
        scales = place.beside("SCB")
        if scales is not None and scales == place.shape[:1] and place.info.dtype == "int8":
            return TensorRole("bitsandbytes weight, 8 bits", "packed", related=place.related(("scales", "SCB")))
    if place.name == "SCB" and place.beside("weight") is not None:
        return TensorRole("bitsandbytes scales, one a row", "scale", related=place.related(("weight", "weight")))
    return None


def _scaled(place: Place) -> TensorRole | None:
    """Names that say which tensor they scale: weight_scale, scale_weight, gate_up_proj_scales ..."""
    for ending, kind, words in _ENDINGS:
        if not place.name.endswith(ending):
            continue
        of = place.name.removesuffix(ending)
        base = place.other(of) or place.other(f"{of}_packed") or (place.other("weight") if of == "scale" else None)
        if base is None and ending == "_scales":
            base = place.other(f"{of}_blocks")
        if base is None:
            continue
        return TensorRole(
            words.format(of=text.visible(of, 60), per=_per(place, base)),
            "zero point" if kind == "zero point" else "scale",
            related=place.related((base.name, base.name)),
        )
    if place.name in _LONE and place.beside("weight") is not None and place.info.elements == 1:
        return TensorRole(_LONE[place.name], "scale", related=place.related(("weight", "weight")))
    if place.name.endswith("_blocks") and (scales := place.other(place.name.removesuffix("_blocks") + "_scales")):
        return TensorRole("MXFP4 weight, 4 bits, packed", "packed", related=place.related(("scales", scales.name)))
    if place.name in ("k_scale", "v_scale", "k_proj.output_scale") and place.info.elements == 1:
        return TensorRole(f"scale of the cached {place.name[0].upper()}", "scale")
    if place.name == "weight_packed" and (place.beside("weight_scale") is not None):
        return TensorRole("packed weight", "packed", related=place.related(("scales", "weight_scale")))
    scaled = [name for name in ("weight_scale_inv", "weight_scale", "scale_weight") if place.beside(name) is not None]
    if place.name == "weight" and scaled and place.info.dtype.startswith(("float8", "int8", "uint8")):
        bits = "8-bit float" if place.info.dtype.startswith("float8") else "8-bit integer"
        return TensorRole(f"{bits} weight with a scale", "packed", related=place.related(("scale", scaled[0])))
    return None


_ENDINGS = (
    ("_scale_inv", "scale", "scale of {of}{per}"),
    ("_scale_2", "scale", "scale of the scales of {of}"),
    ("_scales", "scale", "scales of {of}{per}"),
    ("_scale", "scale", "scale of {of}{per}"),
    ("_zero_point", "zero point", "zero point of {of}"),
)
_LONE = {
    "input_scale": "scale of the layer's input",
    "scale_weight": "scale of the weight",
    "scale_input": "scale of the layer's input",
    "output_scale": "scale of the layer's output",
}


def _per(place: Place, base: Place) -> str:
    """How many elements share a scale, where the shapes tell."""
    shape, of = place.shape, base.shape
    if place.info.elements == 1:
        return ", one for all"
    if len(of) >= 2 and place.info.elements == of[0] and shape[0] == of[0]:
        return ", one a row"
    if len(shape) == len(of) == 2 and shape == (-(-of[0] // 128), -(-of[1] // 128)):
        return ", one a block of 128×128"
    return ""


def _of_torch(place: Place) -> TensorRole | None:
    """torch.ao.quantization: a module keeps the scale and the zero point of what it gives."""
    if place.name not in ("scale", "zero_point") or place.info.elements != 1 or place.beside("scale") is None:
        return None
    if place.beside("zero_point") is None:
        return None
    of = "what was observed" if any(word in place.layer for word in _OBSERVERS) else "the layer's output"
    other = "zero_point" if place.name == "scale" else "scale"
    related = place.related((other.replace("_", " "), other))
    if place.name == "scale":
        return TensorRole(f"quantization scale of {of}", "scale", related=related)
    return TensorRole(f"quantization zero point of {of}", "zero point", related=related)
