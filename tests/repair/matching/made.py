"""Made pairs of tables of which the truth is known: architectures of the field, called and numbered otherwise.

What a state dict is called is made up here: every word may become nonsense, another word of the field or stay. Either
side may lack what the other has, lists may count from another number or from the other end, towers stand there twice,
all sizes may be the same, and orders are those of registration, of the alphabet or none.

A list is lost whole or not at all: one that counts from 1 and lost its last is, to the letter, one that counts from 0
and lost its first, and torch loads it as such.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sdviewer.core.key_table import KeyTable
from sdviewer.repair.matching.contents import Contents, View
from sdviewer.repair.matching.found import Found, Matching
from sdviewer.repair.matching.matching import match
from sdviewer.repair.matching.words import ROLES, SYNONYMS

Shapes = dict[str, tuple[int, ...]]

_ROLES = frozenset({*ROLES, "running_mean", "running_var", "num_batches_tracked"})
_WORD = re.compile(r"[A-Za-z]+")
_NUMBER = re.compile(r"\d+")
_SYLLABLES = [a + b for a in "bdfgjklmnprtvz" for b in "aeiou"]


@dataclass(frozen=True)
class Made:
    """Two tables and, by key of the source, that of the target; `contents` where both hold values.

    `turned` are keys of the source whose two axes have to be exchanged.
    """

    source: KeyTable
    target: KeyTable
    truth: Mapping[str, str]
    turned: frozenset[str]
    contents: Contents | None

    def matched(self) -> Matching:
        """What the engine makes of it."""
        return match(self.source, self.target, contents=self.contents)

    def proved(self, matching: Matching) -> list[Found]:
        """What is called proved."""
        return [one for one in matching.found if one.evidence == "proved"]

    def wrong(self, matching: Matching) -> list[Found]:
        """What is called proved and is not so."""
        return [one for one in self.proved(matching) if not self._is_right(one)]

    def _is_right(self, found: Found) -> bool:
        if len(found.sources) > 1 or len(found.targets) > 1:
            return False  # Nothing is made that is fused.
        (i,), (j,) = found.sources, found.targets
        key, to = self.source.keys[i], self.truth.get(self.source.keys[i])
        if found.relation == "tie":
            group = next(group for group in self.target.ties if j in group)
            return to in [self.target.keys[at] for at in group]
        turned = found.relation == "transpose"
        return to == self.target.keys[j] and turned == (key in self.turned)


# Architectures


def _linear(name: str, rows: int, columns: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (rows, columns)} | ({f"{name}.bias": (rows,)} if bias else {})


def _norm(name: str, width: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (width,)} | ({f"{name}.bias": (width,)} if bias else {})


def _batch_norm(name: str, width: int) -> Shapes:
    stats: Shapes = {
        f"{name}.running_mean": (width,),
        f"{name}.running_var": (width,),
        f"{name}.num_batches_tracked": (),
    }
    return _norm(name, width) | stats


def _vision(n: int, d: int, h: int) -> Shapes:
    found: Shapes = {"cls_token": (1, 1, d), "pos_embed": (1, 5, d), "patch_embed.proj.weight": (d, 3, 2, 2)}
    found |= _norm("patch_embed.norm", d)
    for i in range(n):
        at = f"blocks.{i}."
        found |= _norm(f"{at}norm1", d) | _linear(f"{at}attn.qkv", 3 * d, d) | _linear(f"{at}attn.proj", d, d)
        found |= _norm(f"{at}norm2", d) | _linear(f"{at}mlp.fc1", h, d) | _linear(f"{at}mlp.fc2", d, h)
        found |= {f"{at}ls1.gamma": (d,), f"{at}ls2.gamma": (d,)}
    return found | _norm("norm", d) | _linear("head", 7 if h != d else d, d)


def _layers(at: str, n: int, d: int, h: int, attentions: Sequence[str]) -> Shapes:
    found: Shapes = {}
    for i in range(n):
        here = f"{at}.layers.{i}."
        for attention in attentions:
            for part in ("q", "k", "v", "out"):
                found |= _linear(f"{here}{attention}.{part}_proj", d, d)
            found |= _norm(f"{here}{attention}_layer_norm", d)
        found |= _linear(f"{here}fc1", h, d) | _linear(f"{here}fc2", d, h) | _norm(f"{here}final_layer_norm", d)
    return found


def _translation(n: int, d: int, h: int) -> Shapes:
    found: Shapes = {"shared.weight": (11, d), "encoder.embed_positions.weight": (9, d)}
    found |= _layers("encoder", n, d, h, ("self_attn",)) | _norm("encoder.layer_norm", d)
    found |= {"decoder.embed_positions.weight": (9, d)}
    found |= _layers("decoder", n, d, h, ("self_attn", "encoder_attn")) | _norm("decoder.layer_norm", d)
    return found | _linear("lm_head", 11, d, bias=False)


def _language(n: int, d: int, h: int) -> Shapes:
    found: Shapes = {"embed_tokens.weight": (11, d)}
    for i in range(n):
        at = f"layers.{i}."
        for part, rows, columns in (("q", d, d), ("k", d // 2, d), ("v", d // 2, d), ("o", d, d)):
            found |= _linear(f"{at}self_attn.{part}_proj", rows, columns, bias=False)
        found |= _linear(f"{at}mlp.gate_proj", h, d, bias=False) | _linear(f"{at}mlp.up_proj", h, d, bias=False)
        found |= _linear(f"{at}mlp.down_proj", d, h, bias=False)
        found |= _norm(f"{at}input_layernorm", d, bias=False) | _norm(f"{at}post_attention_layernorm", d, bias=False)
        for e in range(2 if n == 2 else 0):
            found |= _linear(f"{at}experts.{e}.w1", h, d, bias=False) | _linear(f"{at}experts.{e}.w2", d, h, bias=False)
    return found | _norm("norm", d, bias=False) | _linear("lm_head", 11, d, bias=False)


def _residual(n: int, d: int, h: int) -> Shapes:
    found: Shapes = {"conv1.weight": (d, 3, 3, 3)} | _batch_norm("bn1", d)
    for stage in range(1, 4):
        wide = d if h == d else d * stage
        for i in range(n):
            at = f"layer{stage}.{i}."
            for c in (1, 2):
                found |= {f"{at}conv{c}.weight": (wide, wide, 3, 3)} | _batch_norm(f"{at}bn{c}", wide)
        found |= {f"layer{stage}.0.downsample.0.weight": (wide, wide, 1, 1)}
        found |= _batch_norm(f"layer{stage}.0.downsample.1", wide)
    return found | _linear("fc", 7, d)


def _diffusion(n: int, d: int, h: int) -> Shapes:
    found: Shapes = {"conv_in.weight": (d, 3, 3, 3), **_linear("time_embed.0", d, d), **_linear("time_embed.2", d, d)}
    for way in ("down", "up"):
        for i in range(3):
            wide = d if h == d else d * min(i + 1, 2)
            for j in range(n):
                at = f"{way}.{i}.block.{j}."
                found |= _norm(f"{at}norm1", wide) | {f"{at}conv1.weight": (wide, wide, 3, 3)}
                found |= _norm(f"{at}norm2", wide) | {f"{at}conv2.weight": (wide, wide, 3, 3)}
            if i < 2:
                found |= {f"{way}.{i}.{way}sample.conv.weight": (wide, wide, 3, 3)}
    return found | _norm("norm_out", d) | {"conv_out.weight": (3, d, 3, 3)}


def _segmenter(n: int, d: int, h: int) -> Shapes:
    found: Shapes = {"mask_tokens.weight": (4, d), "iou_token.weight": (1, d)}
    for i in range(n):
        for layer in range(3):
            found |= _linear(f"output_mlps.{i}.layers.{layer}", d if layer < 2 else h, d)
    for layer in range(3):
        found |= _linear(f"iou_head.layers.{layer}", d if layer < 2 else 4, d)
    return found | _norm("ln_pre", d) | _norm("ln_post", d) | _linear("proj_in", d, d) | _linear("proj_out", d, d)


def _towers(n: int, d: int, h: int) -> Shapes:
    found = {f"text.{key}": shape for key, shape in _layers("encoder", n, d, h, ("self_attn",)).items()}
    found |= {f"vision.{key}": shape for key, shape in _layers("encoder", n, d, h, ("self_attn",)).items()}
    return found | _linear("text_projection", d, d, bias=False) | _linear("visual_projection", d, d, bias=False)


def _averaged(n: int, d: int, h: int) -> Shapes:
    one = _vision(n, d, h)
    return {f"model.{key}": shape for key, shape in one.items()} | {f"ema.{key}": shape for key, shape in one.items()}


ARCHITECTURES: tuple[Callable[[int, int, int], Shapes], ...] = (
    _vision, _translation, _language, _residual, _diffusion, _segmenter, _towers, _averaged,
)  # fmt: skip


# What is done to them


def made(seed: int) -> Made:
    """The pair of tables of a seed."""
    chance = random.Random(seed)
    d = chance.choice((4, 6))
    shapes = chance.choice(ARCHITECTURES)(chance.choice((2, 3, 5)), d, chance.choice((d, 4 * d)))
    truth = _called(shapes, chance)
    truth = _wrapped(_moved(truth, chance), chance)
    keys_s, keys_t = list(shapes), list(truth.values())
    _lose(keys_s, keys_t, truth, shapes, chance)
    left_s, left_t = set(keys_s), set(keys_t)
    both = {key: to for key, to in truth.items() if key in left_s and to in left_t}
    named_only = chance.random() < 0.12
    turned = frozenset([key for key in shapes if len(shapes[key]) == 2] if chance.random() < 0.2 else [])
    # Turned squares alone, or fc1 and fc2 turned and called fc2 and fc3, are to the letter what is not turned.
    numbered = any(_NUMBER.findall(key) != _NUMBER.findall(to) for key, to in truth.items())
    if named_only or numbered or all(shapes[key][0] == shapes[key][1] for key in turned.intersection(both)):
        turned = frozenset()
    after = {truth[key]: shape[::-1] if key in turned else shape for key, shape in shapes.items()}
    keys_s, ordered_s = _ordered(keys_s, chance)
    keys_t, ordered_t = _ordered(keys_t, chance)
    ties = _ties(keys_t, after, chance)
    source = KeyTable(tuple(keys_s), [shapes[key] for key in keys_s], ["float32"] * len(keys_s), ordered_s)
    known = [None if named_only else after[key] for key in keys_t]
    target = KeyTable(tuple(keys_t), known, ["float32"] * len(keys_t), ordered_t, ties)
    contents = _contents(source, target, truth, turned, shapes, chance) if chance.random() < 0.2 else None
    return Made(source, target, both, turned, contents)


def _called(shapes: Shapes, chance: random.Random) -> dict[str, str]:
    """By key, what it is called on the other side."""
    share = chance.choice((0.0, 0.0, 0.1, 0.4, 1.0))
    of_field = chance.random() < 0.3
    words = list(dict.fromkeys([word for key in shapes for word in _words(key)]))
    new: dict[str, str] = {}
    for word in words:
        if chance.random() < share:
            same = [one for group in SYNONYMS if word in group for one in group if one not in words]
            new[word] = chance.choice(same) if of_field and same else _nonsense(chance)
    if len({*new.values()}) < len(new):
        new = {}
    lists = {around: _renumbered(around, new, chance) for key in shapes for around in _lists(key)}
    if chance.random() < 0.5:
        lists = {}
    most = _most(shapes)
    return {key: _told(key, new, lists, most) for key in shapes}


def _words(key: str) -> list[str]:
    *modules, leaf = key.split(".")
    return [word for part in (modules if leaf in _ROLES else [*modules, leaf]) for word in _WORD.findall(part)]


def _lists(key: str) -> list[str]:
    """What stands before each number that is a component or ends one."""
    return [_NUMBER.sub("#", key[: found.start()]) for found in _NUMBER.finditer(key)]


def _most(shapes: Shapes) -> dict[str, int]:
    found: dict[str, int] = {}
    for key in shapes:
        for around, number in zip(_lists(key), _NUMBER.findall(key), strict=True):
            found[around] = max(found.get(around, 0), int(number))
    return found


def _renumbered(around: str, new: Mapping[str, str], chance: random.Random) -> tuple[int, int]:
    """Sign and shift; a list that is called otherwise may be counted from the other end, where the sign is negative."""
    way = chance.random()
    called = around.removesuffix(".").rpartition(".")[2]
    if way < 0.15 and any(word in new for word in _WORD.findall(called)):
        return -1, 0
    return (1, 0) if way < 0.65 else (1, chance.choice((1, 1, 2)))


def _told(key: str, new: Mapping[str, str], lists: Mapping[str, tuple[int, int]], most: Mapping[str, int]) -> str:
    around = iter(_lists(key))

    def number(found: re.Match[str]) -> str:
        here = next(around)
        sign, shift = lists.get(here, (1, 0))
        value = int(found[0])
        return str((value if sign > 0 else most[here] - value) + shift)

    told = _NUMBER.sub(number, key).split(".")
    leaf = [told.pop()] if told[-1] in _ROLES else []
    return ".".join([_WORD.sub(lambda word: new.get(word[0], word[0]), part) for part in told] + leaf)


def _nonsense(chance: random.Random) -> str:
    return "".join(chance.choices(_SYLLABLES, k=chance.choice((2, 3))))


_SIDE_DOOR = re.compile(r"(.*(?:layers|time_embed))\.([012])\.(weight|bias)")
_CHILD = re.compile(r"(.*(?:layer|layers|down|up|blocks))(\.?)(\d+)(\..*(?:sample|norm2|final_layer_norm|fc2).*)")


def _moved(truth: dict[str, str], chance: random.Random) -> dict[str, str]:
    """A short list whose first has a name of its own, as in SAM, or a child of each block in the next, as in Swin."""
    way = chance.random()
    if way < 0.15:
        names = ("proj_in", "layers.0", "layers.1")
        moved = {
            key: _SIDE_DOOR.sub(lambda at: f"{at[1]}.{names[int(at[2])]}.{at[3]}", to) for key, to in truth.items()
        }
    elif way < 0.3:
        moved = {key: _CHILD.sub(lambda at: f"{at[1]}{at[2]}{int(at[3]) + 1}{at[4]}", to) for key, to in truth.items()}
    else:
        return truth
    return moved if len({*moved.values()}) == len(truth) else truth


def _wrapped(truth: dict[str, str], chance: random.Random) -> dict[str, str]:
    """Something in front of all keys, or a wrapper inside."""
    front = chance.choice(("", "", "", "model.", "module.", f"{_nonsense(chance)}."))
    inside = chance.random() < 0.1
    return {
        key: front + (re.sub(r"(\d+)\.", r"\1._orig_mod.", to, count=1) if inside else to) for key, to in truth.items()
    }


def _lose(
    keys_s: list[str], keys_t: list[str], truth: Mapping[str, str], shapes: Shapes, chance: random.Random
) -> None:
    """Take kinds of tensors, or whole modules, away from either side; often two that look alike, one from each."""
    if chance.random() < 0.3:
        return
    kinds: dict[str, list[str]] = {}
    for key in shapes:
        parts = _NUMBER.sub("#", key).split(".")
        for kind in dict.fromkeys([".".join(parts[:n]) for n in (1, 2, 3, 4, len(parts))]):
            kinds.setdefault(kind, []).append(key)
    looks: dict[Hashable, list[str]] = {}
    for kind, keys in kinds.items():
        looks.setdefault(tuple(sorted([shapes[key] for key in keys])), []).append(kind)
    alike = [some for some in looks.values() if len(some) > 1]
    gone_s: set[str] = set()
    gone_t: set[str] = set()
    for _ in range(chance.choice((1, 1, 2, 4))):
        if alike and chance.random() < 0.7:
            some = chance.choice(alike)
            one, other = chance.sample(some, 2)
            more = [kind for kind in some if kind not in (one, other)] if chance.random() < 0.5 else []
            gone_s |= {key for kind in (one, *more) for key in kinds[kind]}
            gone_t |= {truth[key] for kind in (other, *more) for key in kinds[kind]}
        else:
            gone_s |= set(kinds[chance.choice(list(kinds))]) if chance.random() < 0.5 else set()
            gone_t |= {truth[key] for key in kinds[chance.choice(list(kinds))]} if chance.random() < 0.5 else set()
    keys_s[:] = [key for key in keys_s if key not in gone_s]
    keys_t[:] = [key for key in keys_t if key not in gone_t]


def _ordered(keys: list[str], chance: random.Random) -> tuple[list[str], bool]:
    way = chance.random()
    if way < 0.6:
        return keys, True
    if way < 0.9:
        return sorted(keys), False
    return chance.sample(keys, len(keys)), chance.random() < 0.5


def _ties(
    keys: Sequence[str], shapes: Mapping[str, tuple[int, ...]], chance: random.Random
) -> tuple[tuple[int, ...], ...]:
    """Two of the target that look alike, where it ties some."""
    if chance.random() < 0.8:
        return ()
    looks: dict[tuple[int, ...], list[int]] = {}
    for at, key in enumerate(keys):
        if len(shapes[key]) == 2:
            looks.setdefault(shapes[key], []).append(at)
    alike = [some for some in looks.values() if len(some) > 1]
    return (tuple(chance.sample(chance.choice(alike), 2)),) if alike else ()


def _contents(
    source: KeyTable,
    target: KeyTable,
    truth: Mapping[str, str],
    turned: frozenset[str],
    shapes: Shapes,
    chance: random.Random,
) -> Contents:
    """Values of both sides: the same where both have a tensor; some are constant, as what was never trained."""
    trained = chance.choice((0.5, 0.9, 1.0))
    noise = np.random.default_rng(chance.randrange(1 << 30))
    values = {
        key: noise.random(shape) if chance.random() < trained else np.full(shape, float(chance.choice((0, 1))))
        for key, shape in shapes.items()
    }
    other = {to: values[key].T if key in turned else values[key] for key, to in truth.items()}

    def told(of_source: Sequence[View], of_target: Sequence[View]) -> tuple[list[Hashable], list[Hashable]]:
        ours = [_seen(values[source.keys[view.at]], view) for view in of_source]
        return ours, [_seen(other[target.keys[view.at]], view) for view in of_target]

    return told


def _seen(array: np.ndarray, view: View) -> Hashable:
    array = array.T if view.transposed else array
    for dim, start, size in view.narrow:
        array = array.take(range(start, start + size), axis=dim)
    return array.tobytes()
