"""Whatever two tables of keys hold, matching and the steps made of it come to an end and use each tensor once."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.matching import match
from sdviewer.repair.rules import propose

Shapes = dict[str, tuple[int, ...] | None]

WORDS = (
    *("layers", "blocks", "h", "experts", "mlp", "attn", "q_proj", "k_proj", "v_proj", "qkv", "c_attn", "in_proj"),
    *("gate_proj", "up_proj", "gate_up_proj", "down_proj", "fc1", "fc2", "w1", "w2", "w3", "norm", "ln_1", "embed"),
    *("head", "model", "encoder", "decoder", "ema", "teacher", "0", "1", "10", "lora_A", "lora_B", "module", "key"),
)
LEAVES = (
    *("weight", "bias", "running_mean", "weight_g", "weight_v", "in_proj_weight", "alpha", "position_ids"),
    *("lora_down.weight", "gamma"),
)
SHAPES: tuple[tuple[int, ...] | None, ...] = (
    *((), (0,), (1,), (4,), (12,), (4, 3), (3, 4), (12, 4), (4, 4), (8, 3), (4, 4, 3), (4, 8, 3), (1, 4, 4), None),
    *((1, 1, 4, 4), (4, 3, 1, 1), (2, 0)),
)
SEEDS = 120


def made(drawn: random.Random) -> Shapes:
    """Blocks with a few tensors each, some of them in a list within the block."""
    shapes: Shapes = {}
    for _ in range(drawn.randint(1, 5)):
        front = drawn.choices(WORDS, k=drawn.randint(0, 3))
        ends = [[*drawn.choices(WORDS, k=drawn.randint(0, 2)), drawn.choice(LEAVES)] for _ in range(3)]
        listed, common = drawn.choice((0, 0, 3, 4)), drawn.choice(SHAPES)
        for block in range(drawn.randint(1, 4)):
            for expert in range(max(listed, 1)):
                inside = ["experts", str(expert)] if listed else []
                for end in ends:
                    key = ".".join([*front, str(block), *inside, *end])
                    shapes[key] = drawn.choice(SHAPES) if drawn.random() < 0.3 else common
    return shapes


def changed(drawn: random.Random, shapes: Shapes) -> Shapes:
    """The same with other words, tensors that are lost, stacked, turned round or of another shape, and a copy."""
    words = dict(zip(drawn.sample(WORDS, 6), drawn.choices(WORDS, k=6), strict=True))
    stacked, found = drawn.random() < 0.3, {}
    for key, shape in shapes.items():
        parts = [words.get(part, part) for part in key.split(".")]
        if stacked and "experts" in parts:
            del parts[parts.index("experts") + 1]
            shape = shape and (4, *shape)
        shape = drawn.choice(SHAPES) if drawn.random() < 0.15 else shape
        if drawn.random() < 0.9:
            found[".".join(parts)] = shape[::-1] if shape and drawn.random() < 0.1 else shape
    copies = {f"{drawn.choice(WORDS)}.{key}": shape for key, shape in found.items()} if drawn.random() < 0.3 else {}
    return found | copies or {"x": (1,)}


def table(drawn: random.Random, shapes: Shapes) -> KeyTable:
    dtypes = [drawn.choice(("float32", "float32", "int8", "")) for _ in shapes]
    return KeyTable(tuple(shapes), list(shapes.values()), dtypes, drawn.random() < 0.7)


@pytest.mark.parametrize("start", range(0, SEEDS, 40))
def test_that_each_tensor_is_used_once_and_steps_are_made_of_any_two_tables(start: int) -> None:
    for seed in range(start, start + 40):
        drawn = random.Random(seed)
        one = made(drawn)
        two = changed(drawn, one)
        source, target = (table(drawn, shapes) for shapes in ((one, two) if seed % 2 else (two, one)))
        matching = match(source, target)
        filled = Counter([at for found in matching.found if found.relation != "tie" for at in found.targets])
        used = Counter([at for found in matching.found if found.relation != "tie" for at in found.sources])
        assert max([*filled.values(), *used.values()], default=1) == 1, seed
        propose(source, target, matching)
