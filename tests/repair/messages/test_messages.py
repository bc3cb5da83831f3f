"""What loaders say of a checkpoint that does not fit, in their words, as people paste them."""

from __future__ import annotations

import pytest

from sdviewer.repair.messages import LoadMessage, read_message

TORCH = (
    "RuntimeError: Error(s) in loading state_dict for TinyNet:\n"
    '\tMissing key(s) in state_dict: "embed.weight", "blocks.1.norm.bias". \n'
    '\tUnexpected key(s) in state_dict: "blocks.3.norm.weight", "blocks.3.norm.bias". \n'
    "\tsize mismatch for head.weight: copying a param with shape torch.Size([20, 16]) from checkpoint, "
    "the shape in current model is torch.Size([10, 16]).\n"
    "\tsize mismatch for scale: copying a param with shape torch.Size([]) from checkpoint, "
    "the shape in current model is torch.Size([1, 2])."
)


def read(text: str) -> LoadMessage:
    message = read_message(text)
    assert message is not None
    return message


def is_whole_torch(message: LoadMessage) -> bool:
    return (
        message.model == "TinyNet"
        and message.missing == ("embed.weight", "blocks.1.norm.bias")
        and message.unexpected == ("blocks.3.norm.weight", "blocks.3.norm.bias")
        and message.mismatched == {"head.weight": ((20, 16), (10, 16)), "scale": ((), (1, 2))}
        and not message.incomplete
        and not message.approximate
    )


def wrapped(text: str, width: int) -> str:
    """As a terminal wraps it: in the middle of words and keys."""
    lines = text.split("\n")
    return "\n".join(line[at : at + width] for line in lines for at in range(0, max(1, len(line)), width))


def test_that_the_message_of_torch_is_understood() -> None:
    assert is_whole_torch(read(TORCH))
    assert is_whole_torch(read("Traceback (most recent call last):\n  File ...\n" + TORCH + "\n"))


@pytest.mark.parametrize("width", [17, 23, 28, 32, 40, 55, 57, 80, 100])
def test_that_lines_which_a_terminal_wrapped_are_put_together(width: int) -> None:
    assert is_whole_torch(read(wrapped(TORCH, width)))


@pytest.mark.parametrize(
    "before",
    [
        "[rank0]: ",
        "> ",
        "| ",
        "E       ",
        "2024-03-01 12:00:00,123 - train - ERROR - ",
        "[1,0]<stderr>:",
        "(worker pid=123, ip=10.0.0.1) ",
        "3: ",
        "\x1b[31m│ \x1b[0m",
        "2024-03-01T12:00:00.5Z ",
    ],
)
def test_that_what_stands_before_each_line_is_left_out(before: str) -> None:
    assert is_whole_torch(read("\n".join(before + line for line in TORCH.split("\n"))))
    assert is_whole_torch(read("\n".join(before + line for line in wrapped(TORCH, 61).split("\n"))))


def test_that_text_from_logs_web_pages_and_terminals_is_read() -> None:
    assert is_whole_torch(read(TORCH.replace("\n", "\r\n").replace("\t", "    ")))
    assert is_whole_torch(read(repr(TORCH)))
    assert is_whole_torch(read(TORCH.replace('"', "&quot;")))
    assert is_whole_torch(read(TORCH.replace('"embed.weight"', "“embed.weight”")))
    assert is_whole_torch(read(TORCH.replace("embed", "\x1b[1membed\x1b[0m").replace("size", "[1msize[0m")))
    assert is_whole_torch(read(TORCH.replace("TinyNet", "TinyNet\x00\x07")))


@pytest.mark.parametrize("end", ['"blocks.3.no', '"blocks.3.norm.weight", ', '"blocks.3.norm.weight", ...', ""])
def test_that_a_cut_list_gives_its_whole_keys_and_says_that_there_are_more(end: str) -> None:
    message = read(TORCH[: TORCH.index('"blocks.3.norm.weight"')] + end)
    assert message.incomplete
    assert message.missing == ("embed.weight", "blocks.1.norm.bias")
    assert message.unexpected == (("blocks.3.norm.weight",) if "weight" in end else ())
    assert any("unexpected keys" in note for note in message.notes)


def test_that_a_text_that_begins_in_the_middle_is_incomplete() -> None:
    message = read(TORCH[TORCH.index('blocks.1.norm.bias"') :])
    assert message.incomplete
    assert message.unexpected == ("blocks.3.norm.weight", "blocks.3.norm.bias")


def test_that_torch_0_4_0_which_swaps_the_shapes_is_put_right() -> None:
    message = read(
        "RuntimeError: Error(s) in loading state_dict for Net:\n\tsize mismatch for fc.weight: copying a param of "
        "torch.Size([10, 512]) from checkpoint, where the shape is torch.Size([1000, 512]) in current model."
    )
    assert message.mismatched == {"fc.weight": ((1000, 512), (10, 512))}


def test_that_torch_before_0_4_is_read_and_said_to_tell_one_thing_at_a_time() -> None:
    message = read(
        "KeyError: 'unexpected key \"module.a.weight\" in state_dict'\n"
        "KeyError: 'missing keys in state_dict: \"{\\'b.bias\\', \\'b.weight\\'}\"'\n"
        "KeyError: 'missing keys in state_dict: \"set([\\'c.bias\\'])\"'\n"
        "RuntimeError: While copying the parameter named d.weight, whose dimensions in the model are "
        "torch.Size([58, 256]) and whose dimensions in the checkpoint are torch.Size([107, 256])."
    )
    assert message.unexpected == ("module.a.weight",)
    assert message.missing == ("b.bias", "b.weight", "c.bias")
    assert message.mismatched == {"d.weight": ((107, 256), (58, 256))}
    assert message.incomplete


def test_that_copies_that_fail_and_entries_that_are_no_tensors_are_told_apart() -> None:
    message = read(
        "RuntimeError: Error(s) in loading state_dict for Net:\n"
        '\tWhile copying the parameter named "a", whose dimensions in the model are torch.Size([2]) and whose '
        "dimensions in the checkpoint are torch.Size([2]), an exception occurred : ('no kernel',).\n"
        '\tWhile swapping the parameter named "b", whose dimensions in the model are torch.Size([3]) and whose '
        "dimensions in the checkpoint are torch.Size([4]), an exception occured : ('x',).\n"
        '\tWhile copying the parameter named "c", expected torch.Tensor or Tensor-like object from checkpoint but '
        "received <class 'numpy.ndarray'>\n"
        '\tUnexpected running stats buffer(s) "1.running_mean" and "1.running_var" for InstanceNorm1d with '
        "track_running_stats=False. If state_dict is a checkpoint saved before 0.4.0, this may be expected."
    )
    assert list(message.failed) == ["a"]
    assert "no kernel" in message.failed["a"]
    assert message.mismatched == {"b": ((4,), (3,))}
    assert message.not_tensors == {"c": "<class 'numpy.ndarray'>"}
    assert message.unexpected == ("1.running_mean", "1.running_var")


def test_that_texts_without_keys_say_what_they_are_about() -> None:
    assert read("<All keys matched successfully>").matched
    assert "mapping" in read("TypeError: Expected state_dict to be dict-like, got <class 'list'>.").notes[0]
    optimizer = (
        "ValueError: loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
    )
    assert "optimizer" in read(optimizer).notes[0]
    assert read_message("Traceback (most recent call last):\nValueError: nothing of that kind") is None


def test_that_safetensors_and_lightning_which_use_the_words_of_torch_are_read() -> None:
    message = read(
        "RuntimeError: Error(s) in loading state_dict for LitModel:\n"
        '    Missing key(s) in state_dict: "a", "b"\n    Unexpected key(s) in state_dict: "model.a", "model.b"'
    )
    assert (message.model, message.missing, message.unexpected) == ("LitModel", ("a", "b"), ("model.a", "model.b"))
    assert not message.incomplete


@pytest.mark.parametrize(
    "text",
    [
        "_IncompatibleKeys(missing_keys=['a.b', \"c\"], unexpected_keys=['d'])",
        "_IncompatibleKeys(missing_keys=['a.\nb', \"c\"], \nunexpected_keys=['d'])",
        "Missing keys: ['a.b', 'c']\nUnexpected keys: {'d'}",
        "Found keys that are in the model state dict but not in the checkpoint: ['a.b', 'c']\n"
        "Found keys that are not in the model state dict but in the checkpoint: ['d']",
        "Missing keys (a.b, c) discovered while loading pretrained weights. This is expected if model is adapted.\n"
        "Unexpected keys (d) found while loading pretrained weights. This may be expected.",
        "Some weights of the model checkpoint at bert were not used when initializing Net: ['d']\n"
        "- This IS expected if you are initializing Net from another task.\n"
        "Some weights of Net were not initialized from the model checkpoint at bert and are newly initialized: "
        "['a.b', 'c']\nYou should probably TRAIN this model.",
        "Some weights of the model checkpoint were not used when initializing Net: \n ['d']\n"
        "Some weights of Net were not initialized from the model checkpoint and are newly initialized: \n ['a.b, c']",
        "RuntimeError: The model and loaded state dict do not match exactly\n\nunexpected key in source state_dict: d\n"
        "\nmissing keys in source state_dict: a.b, c\n\n2024-01-01 00:00:00 INFO more, and more",
        "RuntimeError: The model and loaded state dict do not match exactly\n\nunexpected key in source state_dict: d\n"
        "\nmissing keys in source state_dict: a\n.b, \nc\n",
        "\x1b[5m\x1b[31mWARNING\x1b[0m Some model parameters or buffers are not found in the checkpoint:\n"
        "\x1b[34ma.b\x1b[0m\n\x1b[34mc\x1b[0m\nThe checkpoint state_dict contains keys that are not used by the "
        "model:\n  \x1b[35md\x1b[0m\n",
    ],
)
def test_that_lists_of_keys_are_read_in_the_words_of_each_loader(text: str) -> None:
    message = read(text)
    assert message.missing == ("a.b", "c")
    assert message.unexpected == ("d",)
    assert not message.incomplete


@pytest.mark.parametrize("width", [24, 37, 60, 101])
def test_that_warnings_of_transformers_4_are_read_as_a_terminal_wraps_them(width: int) -> None:
    message = read(
        wrapped(
            "Some weights of the model checkpoint at bert were not used when initializing BertModel: ['cls.bias']\n"
            "- This IS expected if you are initializing BertModel from another task.\n"
            "Some weights of BertModel were not initialized from the model checkpoint at b and are newly initialized: "
            "['pooler.dense.bias', 'pooler.dense.weight']\n",
            width,
        )
    )
    assert message.model == "BertModel"
    assert message.unexpected == ("cls.bias",)
    assert message.missing == ("pooler.dense.bias", "pooler.dense.weight")
    assert not message.incomplete


def test_that_fvcore_folds_by_module_and_lists_other_shapes_as_missing_too() -> None:
    message = read(
        "Skip loading parameter 'head.weight' to the model due to incompatible shapes: (20, 4) in the checkpoint but "
        "(10, 4) in the model! You might want to double check if this is expected.\n"
        "Some model parameters or buffers are not found in the checkpoint:\nhead.{bias, weight}\n"
        "neck.norm.{bias, weight}"
    )
    assert message.mismatched == {"head.weight": ((20, 4), (10, 4))}
    assert message.missing == ("head.bias", "neck.norm.bias", "neck.norm.weight")
    assert not message.approximate


def test_that_shapes_are_read_in_the_words_of_each_loader() -> None:
    texts = [
        "Some weights of Net were not initialized from the model checkpoint at x and are newly initialized because the "
        "shapes did not match:\n- a.weight: found shape torch.Size([2, 7]) in the checkpoint and torch.Size([5, 7]) in "
        "the model instantiated\nYou should probably TRAIN",
        "ValueError: Cannot load some/model because a.weight expected shape tensor(..., device='meta', size=(5, 7)), "
        "but got torch.Size([2, 7]). If you want to instead overwrite",
        "Cannot load x because a.weight expected shape torch.Size([5, 7]), but got torch.Size([2, 7]).",
        "Size mismatch between saved torch.Size([2, 7]) and current: torch.Size([5, 7]) for a.weight",
        "Shape of a.weight in checkpoint is torch.Size([2, 7]), while shape of a.weight in model is "
        "torch.Size([5, 7]).",
    ]
    for text in texts:
        assert read(text).mismatched == {"a.weight": ((2, 7), (5, 7))}, text
    told = read(
        'Trying to set a tensor of shape torch.Size([2]) in "weight" (which has shape torch.Size([3])), this look'
    )
    assert not told.mismatched
    assert '"weight"' in told.notes[0]


REPORT = """\x1b[1mBertModel LOAD REPORT\x1b[0m from: somewhere
Key                            | Status     |
-------------------------------+------------+------
layer.3.adapter.weight         | UNEXPECTED |
layer.{0...10}.dense.bias      | MISSING    |
layer.{0, 2}.out.weight        | MISMATCH   | Reinit - ckpt: torch.Size([3]) vs model:torch.Size([9])
experts.{0, 1}.{0...11}.w      | MISSING    |
stage.weight                   | SKIPPED    |

Notes:
- MISSING:	those params were newly initialized | MISSING |
"""


def test_that_a_folded_report_is_filled_in_and_said_to_be_approximate() -> None:
    message = read(REPORT)
    assert message.model == "BertModel"
    assert message.unexpected == ("layer.3.adapter.weight",)
    assert message.missing[:11] == tuple(f"layer.{i}.dense.bias" for i in range(11))
    assert len(message.missing) == 11 + 2 * 12
    assert message.mismatched == {f"layer.{i}.out.weight": ((3,), (9,)) for i in (0, 2)}
    assert message.approximate
    assert not message.incomplete


@pytest.mark.parametrize("width", [44, 60, 75])
def test_that_a_report_in_a_narrow_terminal_is_put_together(width: int) -> None:
    assert read(wrapped(REPORT, width)).mismatched == read(REPORT).mismatched
    assert read(wrapped(REPORT, width)).missing == read(REPORT).missing


def test_that_a_report_of_single_keys_is_exact() -> None:
    message = read("Net LOAD REPORT from: x\nKey | Status |\n----+---+\na.weight | MISSING |\nb.{0, 1}.w | MISSING |\n")
    assert message.missing == ("a.weight", "b.0.w", "b.1.w")
    assert not message.approximate


def test_that_a_folded_key_that_stands_for_too_many_is_left_out_and_said() -> None:
    bombs = "".join(f"a.{{0...999999999}}.b.{{0...9999}}.{i} | MISSING |\n" for i in range(50))
    message = read("Net LOAD REPORT from: x\n" + bombs + "a.{5...2}.c | MISSING |\nd | MISSING |\n")
    assert message.missing == ("d",)
    assert message.incomplete


def test_that_of_the_messages_of_two_models_the_last_is_taken() -> None:
    first = 'RuntimeError: Error(s) in loading state_dict for Outer:\n\tMissing key(s) in state_dict: "x". \n'
    message = read(first + "\nDuring handling of the above exception, another exception occurred:\n\n" + TORCH)
    assert message.missing == ("embed.weight", "blocks.1.norm.bias")
    assert any("Outer" in note for note in message.notes)


@pytest.mark.parametrize(
    "text",
    [
        'Missing key(s) in state_dict: "',
        "size mismatch for a:",
        "size mismatch for " + ": " * 30,
        "While copying the parameter named ",
        "_IncompatibleKeys(missing_keys=['\\",
        "Some weights of ",
        "torch.Size([",
        "\x1b[",
        "\x1b]",
        "[1;",
        " ",
        "\t\n",
        "a.{0...9} | MISSING |",
        "because ",
        "Missing keys (",
    ],
)
def test_that_hostile_texts_take_a_time_that_grows_with_their_length(text: str) -> None:
    # A pattern that goes back over 300,000 characters for each of them would not come to an end here.
    for hostile in (text * (300_000 // len(text)), text + "x" * 300_000, text + '"' * 300_000, text + "\n" * 300_000):
        read_message(hostile)


def test_that_a_text_longer_than_any_message_is_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdviewer.repair.messages.cleaning.MOST_TEXT", 200)
    message = read(TORCH)
    assert message.incomplete
    assert message.missing == ("embed.weight", "blocks.1.norm.bias")


def test_that_the_line_of_python_that_makes_a_message_is_none() -> None:
    said = read_message(
        "    raise RuntimeError(f'Error(s) in loading state_dict for {model.__class__.__name__}:\\n\\t{error_msg}')\n"
        "RuntimeError: Error(s) in loading state_dict for UNet:\n"
        "\tsize mismatch for conv_in.weight: copying a param with shape torch.Size([32, 4, 3, 3]) from checkpoint, "
        "the shape in current model is torch.Size([32, 3, 3, 3]).\n"
    )
    assert said is not None
    assert (said.model, said.notes) == ("UNet", ())
    assert said.mismatched == {"conv_in.weight": ((32, 4, 3, 3), (32, 3, 3, 3))}


LAYER = "base_model.model.layers.0.q"


def test_that_what_loaders_of_adapters_warn_of_is_understood() -> None:
    factors = [f"{LAYER}.lora_A.default.weight", f"{LAYER}.lora_B.default.weight"]
    peft = f"peft_model.py:600: UserWarning: Found missing adapter keys while loading the checkpoint: {factors}."
    assert read(f"{peft}\n  warnings.warn(warn_message)").missing == tuple(factors)
    assert read(wrapped(peft, 40)).missing == tuple(factors)
    led = "Loading adapter weights from state_dict led to"
    both = read(f"{led} unexpected keys found in the model: a.b, c.d. {led} missing keys in the model: {factors[0]}.")
    assert (both.unexpected, both.missing) == (("a.b", "c.d"), (factors[0],))
    assert read(f"{led} unexpected keys not found in the model:  {factors}. ").unexpected == tuple(factors)
    assert both.loaders == ("PEFT",)
