"""The words of a strict load, held against those of torch itself."""

from __future__ import annotations

import pytest
import torch

from sdviewer.core.strict_words import MATCHED, strict_words


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Linear(3, 4)
        self.head = torch.nn.Linear(4, 2)


def said_by_torch(state_dict: dict[str, torch.Tensor]) -> str:
    with pytest.raises(RuntimeError) as caught:
        Net().load_state_dict(state_dict)
    return str(caught.value)


def test_that_missing_unexpected_and_mismatched_keys_are_told_as_torch_tells_them() -> None:
    given = Net().state_dict()
    given["module.embed.bias"] = given.pop("embed.bias")
    given["scale"] = torch.tensor(1.0)
    given["head.weight"] = torch.zeros(7, 4)
    given["head.bias"] = torch.zeros(())
    mismatched = [("head.weight", (7, 4), (2, 4)), ("head.bias", (), (2,))]
    words = strict_words("Net", ["embed.bias"], ["module.embed.bias", "scale"], mismatched)
    assert words == said_by_torch(given)


def test_that_one_kind_alone_is_told_as_torch_tells_it() -> None:
    given = Net().state_dict()
    del given["head.bias"]
    assert strict_words("Net", ["head.bias"], []) == said_by_torch(given)


def test_that_a_load_without_problems_is_told_as_torch_tells_it() -> None:
    assert strict_words("Net", [], []) == repr(Net().load_state_dict(Net().state_dict())) == MATCHED
