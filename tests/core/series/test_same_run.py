"""Which names are of one run."""

from __future__ import annotations

import pytest

from sdviewer.core.series.same_run import is_alike, relatives, run_name


@pytest.mark.parametrize(
    ("own", "others", "strangers"),
    [
        (
            "vit_b16_ft_epoch42.pth",
            ["vit_b16_ft_epoch0.pth", "vit_b16_ft_best.pth"],
            ["vit_b32_ft_epoch2.pth", "vit_b16_epoch2.pth", "vit_b16_ft_epoch2.npz", "vit_b16_ft.pth"],
        ),
        ("epoch=3-step=1200.ckpt", ["epoch=4-step=1600.ckpt", "last.ckpt"], ["resnet_epoch=1.ckpt"]),
        ("epoch=03-val_loss=0.23.ckpt", ["epoch=04-val_loss=0.2.ckpt"], ["base.ckpt"]),
        ("checkpoint-500", ["checkpoint-1000"], ["runs", "logs_2"]),
        ("model_best.pth.tar", ["checkpoint_0010.pth.tar", "checkpoint_0011.pth.tar"], ["fold_2.pth.tar"]),
        ("Net_Acc_84.2_e3.pth", ["net_acc_85_e4.pth"], ["netx_acc_85_e4.pth"]),
        ("step_300k.pt", ["step_1M.pt"], ["step.pt"]),
    ],
)
def test_that_names_of_one_run_are_known_and_others_are_not(own: str, others: list[str], strangers: list[str]) -> None:
    found = relatives(own, [own, *strangers, *others])
    assert found is not None
    assert found.names == [own, *others]
    assert found.told_by_names


@pytest.mark.parametrize(
    "names",
    [
        ["resnet18.pth", "resnet34.pth", "resnet50.pth"],
        ["fold_1.pth", "fold_2.pth", "fold_3.pth"],
        ["net_seed1.pth", "net_seed2.pth", "net_seed3.pth"],
        ["vit_s_16.pth", "vit_s_32.pth"],
        ["llama-7b.bin", "llama-13b.bin", "llama-70b.bin"],
        ["sd-v1.4.ckpt", "sd-v1.5.ckpt"],
        ["model_1.pth", "model_2.pth"],
        ["best.pth", "model.pth"],
    ],
)
def test_that_different_models_are_no_run(names: list[str]) -> None:
    assert relatives(names[0], names) is None


def test_that_three_numbered_names_are_a_run_only_if_what_is_in_them_says_so() -> None:
    found = relatives("net_1.pth", ["net_1.pth", "net_2.pth", "net_3.pth"])
    assert found is not None
    assert not found.told_by_names


def test_that_a_suffix_and_capitals_do_not_part_a_run() -> None:
    assert run_name("VIT_Epoch1.PTH") == run_name("vit_epoch2.pth")


def test_that_a_grown_model_is_alike_and_another_one_is_not() -> None:
    blocks = [(f"blocks.{at}.weight", (4, 4)) for at in range(8)]
    assert is_alike(blocks, blocks[:6])
    assert not is_alike(blocks, blocks[:4])
    assert not is_alike(blocks, [(key, (8, 8)) for key, _ in blocks])
    assert not is_alike([], [])
