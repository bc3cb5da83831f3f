"""Components of keys."""

from __future__ import annotations

import pytest

from sdviewer.core.key_parts import exchanged


@pytest.mark.parametrize(
    ("old", "new", "differ"),
    [
        ("blocks.{i}.ffn.layers.0.0.{p}", "blocks.{i}.mlp.fc1.{p}", ("ffn.layers.0.0", "mlp.fc1")),
        ("patch_embed.projection.{p}", "patch_embed.proj.{p}", ("patch_embed.projection", "….proj")),
        ("student.{rest...}", "{rest...}", ("student.{rest...}", "{rest...}")),
        ("net.{rest...}", "model.net.{rest...}", ("net", "model.net")),
        ("head_b", "head.bias", ("head_b", "head.bias")),
        ("a.b.w", "a.w", ("a.b", "a")),
        ("", "x", ("", "x")),
    ],
)
def test_that_what_differs_in_two_keys_is_told_alone(old: str, new: str, differ: tuple[str, str]) -> None:
    assert exchanged(old, new) == differ
