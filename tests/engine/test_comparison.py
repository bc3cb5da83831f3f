"""The worker of a comparison, asked directly: pairs, rows, numbers, the matrix, the map."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdviewer.core.aligned import CHILDREN, FOLD
from sdviewer.core.progress import no_progress
from sdviewer.engine.comparison import Comparison
from sdviewer.engine.document import Document
from sdviewer.engine.frames import Answer
from sdviewer.engine.measuring import measure
from sdviewer.engine.pair_numbers import AT_MOST, EXACT, SO_FAR, WORDS
from sdviewer.engine.pair_survey import PairSurvey
from sdviewer.engine.survey import Survey
from sdviewer.errors import NoMatch, SDViewerError, UsageError

Tensors = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))


def model(blocks: int = 5) -> Tensors:
    """Blocks of two tensors and a head."""
    made = torch.Generator().manual_seed(1)
    tensors: Tensors = {"embed.weight": torch.randn(7, 4, generator=made)}
    for block in range(blocks):
        tensors[f"blocks.{block}.fc.weight"] = torch.randn(4, 4, generator=made)
        tensors[f"blocks.{block}.fc.bias"] = torch.randn(4, generator=made)
    tensors["head.weight"] = torch.randn(3, 4, generator=made)
    return tensors


class Compared:
    """Two files that are compared; `ask` answers as the worker does."""

    def __init__(self, folder: Path, a: Any, b: Any, **params: Any) -> None:
        self.paths = [str(folder / name) for name in ("a.pth", "b.pth")]
        torch.save(a, self.paths[0])
        torch.save(b, self.paths[1])
        self.service = Comparison()
        self.opened = self.ask("open", a=self.paths[0], b=self.paths[1], **params)

    def ask(self, name: str, **params: Any) -> Answer:
        return self.service.requests[name](params, no_progress)

    def measure(self, identities: list[dict[str, int]] | None = None, recipe: str = "") -> Answer:
        """Let all pairs be measured, and hand the numbers on as those of files with these identities."""
        survey = PairSurvey()
        sides = {side: {name: self.opened.body[side][name] for name in ("path", "identity")} for side in "ab"}
        sides["a"]["recipe"] = recipe
        pairs = {name: memoryview(self.opened.buffers[name]) for name in ("pairs", "measured")}
        survey.begin({**sides, **pairs}, no_progress)
        found = survey.measure({"first": [], "seconds": 60, "most": 1 << 40}, no_progress)
        own = [self.opened.body[side]["identity"] for side in "ab"]
        return self.ask("numbers", identities=identities or own, refresh=True, **found.buffers)

    def measure_norms(self) -> Answer:
        """Let the norms that are unknown be measured, and hand them on."""
        b = {name: self.opened.body["b"][name] for name in ("path", "identity")}
        survey = Survey()
        survey.begin({**b, "measured": memoryview(self.ask("unknown").buffers["measured"])}, no_progress)
        found = survey.measure({"first": [], "seconds": 60, "most": 1 << 40}, no_progress)
        return self.ask("norms", identity=b["identity"], **found.buffers)

    def module(self, key: str) -> int:
        """The row of a module."""
        tree = self.service.tree
        return next(row for row in range(len(tree)) if tree.key_a[row] == key and tree.leaf[row] < 0)

    def keys(self, answer: Answer) -> list[str]:
        tree = self.service.tree
        rows = array("i")
        rows.frombytes(bytes(answer.buffers["visible"]))
        return [tree.key_a[row] or tree.key_b[row] or tree.name_a[row] or tree.name_b[row] for row in rows]

    def row(self, key: str) -> int:
        tree = self.service.tree
        return next(
            row for row in range(len(tree)) if key in (tree.key_a[row], tree.key_b[row]) and tree.leaf[row] >= 0
        )

    def facts(self, key: str) -> Mapping[str, Any]:
        return self.ask("facts", row=self.row(key)).body

    def statuses(self, answer: Answer) -> dict[str, str]:
        """The status of each leaf by its key."""
        tree, codes = self.service.tree, bytes(answer.buffers["status"])
        return {
            tree.key_a[row] or tree.key_b[row]: WORDS[codes[row]] for row in range(len(tree)) if tree.leaf[row] >= 0
        }


def test_that_each_kind_of_difference_is_told(tmp_path: Path) -> None:
    a, b = model(), model()
    b["blocks.2.fc.weight"] = b["blocks.2.fc.weight"] + 1
    b["head.weight"] = torch.randn(5, 4)
    b["embed.weight"] = b["embed.weight"].double()
    del b["blocks.3.fc.bias"]
    b["extra"] = torch.ones(2)
    compared = Compared(tmp_path, a, b)
    counts = compared.opened.body["counts"]
    assert {name: n for name, n in counts.items() if n} == {"shape": 1, "dtype": 1, "only_a": 1, "only_b": 1}
    told = compared.measure()
    statuses = compared.statuses(told)
    assert statuses["blocks.2.fc.weight"] == "changed"
    assert statuses["blocks.2.fc.bias"] == "identical"
    assert statuses["head.weight"] == "shape"
    assert statuses["embed.weight"] == "dtype"
    assert statuses["blocks.3.fc.bias"] == "only_a"
    assert statuses["extra"] == "only_b"
    assert told.body["counts"]["identical"] == 8
    assert told.body["to_measure"] == 0


def test_that_a_module_sums_up_what_changed_below_it(tmp_path: Path) -> None:
    a, b = model(), model()
    for name in ("weight", "bias"):
        b[f"blocks.1.fc.{name}"] = b[f"blocks.1.fc.{name}"] * 1.5
    compared = Compared(tmp_path, a, b)
    told = compared.measure()
    tree = compared.service.tree
    changes = np.frombuffer(told.buffers["change"], np.float32)
    block = next(row for row in range(len(tree)) if tree.key_a[row] == "blocks.1")
    assert changes[block] == pytest.approx(0.5)
    assert changes[compared.row("blocks.2.fc.weight")] == 0
    other = next(row for row in range(len(tree)) if tree.key_a[row] == "blocks.2")
    assert changes[other] == 0
    codes = np.frombuffer(told.buffers["status"], np.uint8)
    assert WORDS[codes[other]] == "identical"
    blocks = next(row for row in range(len(tree)) if tree.key_a[row] == "blocks")
    assert WORDS[codes[blocks]] == "mixed"


def relative(a: Tensors, b: Tensors, prefix: str) -> float:
    """||b - a|| / ||a|| of all that a module holds, in float64."""
    keys = [key for key in a if key.startswith(prefix)]
    one, other = (torch.cat([tensors[key].double().flatten() for key in keys]) for tensors in (a, b))
    return float((other - one).norm() / one.norm())


def test_that_the_change_of_a_module_is_over_all_its_tensors_once_their_norms_are_known(tmp_path: Path) -> None:
    a, b = model(), model()
    b["blocks.1.fc.weight"] = b["blocks.1.fc.weight"] * 1.5
    compared = Compared(tmp_path, a, b)
    assert compared.opened.buffers["bounds"][compared.module("blocks")] == SO_FAR
    told = compared.measure()
    blocks, block, other = (compared.module(key) for key in ("blocks", "blocks.1", "blocks.2"))
    bounds = told.buffers["bounds"]
    assert (bounds[blocks], bounds[block], bounds[other]) == (AT_MOST, AT_MOST, EXACT)
    changes = np.frombuffer(told.buffers["change"], np.float32)
    assert changes[blocks] == pytest.approx(0.5)
    # Those beside the blocks are below no module that changed: nobody needs to know their norms.
    unknown = compared.ask("unknown")
    assert (unknown.body["n"], bytes(unknown.buffers["measured"]).count(0)) == (9, 9)
    told = compared.measure_norms()
    bounds, changes = told.buffers["bounds"], np.frombuffer(told.buffers["change"], np.float32)
    assert (bounds[blocks], bounds[block]) == (EXACT, EXACT)
    assert changes[blocks] == pytest.approx(relative(a, b, "blocks."), rel=1e-6)
    assert changes[block] == pytest.approx(relative(a, b, "blocks.1."), rel=1e-6)
    assert compared.ask("unknown").body["n"] == 0


def test_that_a_counter_does_not_speak_for_the_weights_beside_it(tmp_path: Path) -> None:
    a = {"norm.weight": torch.ones(4), "norm.num_batches_tracked": torch.tensor(3752), "steps.n": torch.tensor(2)}
    b = {
        "norm.weight": torch.full((4,), 1.1),
        "norm.num_batches_tracked": torch.tensor(7504),
        "steps.n": torch.tensor(3),
    }
    for name in ("steps.m",):
        a[name] = b[name] = torch.ones(3)
    compared = Compared(tmp_path, a, b)
    compared.measure()
    changes = np.frombuffer(compared.measure_norms().buffers["change"], np.float32)
    assert changes[compared.module("norm")] == pytest.approx(0.1)
    # No weight changed here, but something did.
    assert changes[compared.module("steps")] == pytest.approx(1 / 7**0.5)


def test_that_nothing_is_measured_beside_a_comparison_of_equal_files(tmp_path: Path) -> None:
    compared = Compared(tmp_path, model(), model())
    compared.measure()
    assert compared.ask("unknown").body == {"n": 0, "nbytes": 0}


def test_that_norms_that_are_kept_of_a_file_are_not_measured_again(tmp_path: Path) -> None:
    a, b = model(), model()
    b["blocks.1.fc.weight"] = b["blocks.1.fc.weight"] * 1.5
    compared = Compared(tmp_path, a, b)
    document = Document()
    document.open({"path": compared.paths[0]}, no_progress)
    columns = measure(document.checkpoint, range(len(document.checkpoint.tensors)))
    document.file_numbers.put({"indices": np.arange(len(document.checkpoint.tensors)), **columns})
    document.file_numbers.keep()
    compared.measure()
    assert compared.ask("unknown").body["n"] == 0
    told = compared.ask("norms", identity={})
    changes = np.frombuffer(told.buffers["change"], np.float32)
    assert changes[compared.module("blocks")] == pytest.approx(relative(a, b, "blocks."), rel=1e-6)


def test_that_a_take_and_its_undo_keep_the_numbers_of_all_other_pairs(tmp_path: Path) -> None:
    a, b = model(), model()
    for block in (1, 2):
        b[f"blocks.{block}.fc.weight"] = b[f"blocks.{block}.fc.weight"] * 1.5
    compared = Compared(tmp_path, a, b)
    before = compared.measure()
    compared.measure_norms()
    compared.ask("rows", sort="rel_l2", descending=True, chips=["changed"])
    row = compared.row("blocks.1.fc.weight")
    step = compared.ask("take", row=row).body["step"]
    recipe = f'format = "sdviewer-recipe/1"\n[[step]]\nop = "take"\nfrom = {step["from"]!r}\nkeys = {step["keys"]}\n'
    files = {"a": compared.paths[0], "b": compared.paths[1]}
    taken = compared.opened = compared.ask("open", **files, recipe=recipe, selected=[row])
    assert taken.body["to_measure"] == 1
    assert taken.body["kept"]
    assert compared.service.shown.chips
    assert compared.service.tree.key_b[taken.body["selected"][0]] == "blocks.1.fc.weight"
    after = compared.measure(recipe=recipe)
    assert after.body["counts"]["identical"] == before.body["counts"]["identical"] + 1
    changes = np.frombuffer(after.buffers["change"], np.float32)
    a["blocks.1.fc.weight"] = b["blocks.1.fc.weight"]
    assert compared.ask("unknown").body["n"] == 1
    told = compared.measure_norms()
    changes = np.frombuffer(told.buffers["change"], np.float32)
    assert changes[compared.module("blocks")] == pytest.approx(relative(a, b, "blocks."), rel=1e-6)
    assert told.body["to_measure"] == 0
    undone = compared.ask("open", **files, selected=[compared.module("blocks.1")])
    assert compared.service.tree.key_a[undone.body["selected"][0]] == "blocks.1"
    assert undone.body["matched"] == 2
    assert undone.body["to_measure"] == 0
    assert undone.body["counts"] == before.body["counts"]
    again = compared.ask("open", **files, recipe=recipe)
    assert again.body["to_measure"] == 0


def test_that_nothing_is_kept_of_a_file_that_is_another_one_now(tmp_path: Path) -> None:
    compared = Compared(tmp_path, model(), model())
    compared.measure()
    changed = model()
    changed["head.weight"] = changed["head.weight"] + 1
    torch.save(changed, compared.paths[1])
    compared.opened = compared.ask("open", a=compared.paths[0], b=compared.paths[1])
    assert (compared.opened.body["to_measure"], compared.opened.body["kept"]) == (12, False)
    assert compared.measure().body["counts"]["changed"] == 1


def test_that_blocks_that_turn_out_alike_fold_once_they_are_measured(tmp_path: Path) -> None:
    a, b = model(8), model(8)
    b["blocks.5.fc.weight"] = b["blocks.5.fc.weight"] + 1
    compared = Compared(tmp_path, a, b)
    before = compared.opened.body["sheet"]
    compared.measure()
    chosen = compared.row("blocks.5.fc.weight")
    folded = compared.ask("fold", selected=[chosen])
    tree = compared.service.tree
    names = [tree.name_a[row] for row, flags in enumerate(tree.flags) if flags & FOLD]
    assert names == ["0 – 4"]
    assert folded.body["sheet"] > before
    assert tree.key_a[folded.body["selected"][0]] == "blocks.5.fc.weight"
    with pytest.raises(UsageError):
        compared.ask("rows", toggle=0, sheet=before)


def test_that_a_prefix_that_one_side_has_is_seen_without_being_asked_for(tmp_path: Path) -> None:
    compared = Compared(tmp_path, {f"module.{key}": value for key, value in model().items()}, model())
    body = compared.opened.body
    assert body["match"] == "prefix"
    assert body["exchanges"] == [["module.", ""]]
    assert compared.measure().body["counts"]["identical"] == 12
    by_name = compared.ask("match", match="key", selected=[])
    assert by_name.body["counts"]["only_a"] == by_name.body["counts"]["only_b"] == 12


def test_that_one_renamed_tensor_is_no_prefix_exchange(tmp_path: Path) -> None:
    a, b = model(), model()
    b["neck.weight"] = b.pop("head.weight")
    compared = Compared(tmp_path, a, b)
    assert compared.opened.body["match"] == "key"
    assert compared.opened.body["counts"]["only_a"] == 1


def test_that_a_pair_is_made_and_broken_by_hand(tmp_path: Path) -> None:
    a, b = model(), model()
    b["neck.kernel"] = b.pop("head.weight")
    compared = Compared(tmp_path, a, b)
    only = compared.row("head.weight")
    found = compared.ask("partners", row=only, text="", limit=3).body["rows"]
    assert found[0][1:] == ["neck.kernel", "3×4", True, ""]
    hand = [[compared.facts("head.weight")["tensors"][0], found[0][0]]]
    paired = compared.ask("match", match="key", hand=hand, selected=[only])
    assert paired.body["counts"]["only_a"] == 0
    facts = compared.facts("head.weight")
    assert facts["key_b"] == "neck.kernel"
    assert facts["by"] == "hand"
    compared.ask("match", match="key", broken=[facts["tensors"]], selected=[])
    assert compared.facts("neck.kernel")["key_a"] == ""


def test_that_equal_contents_are_paired_under_other_names_where_that_is_asked_for(tmp_path: Path) -> None:
    a, b = model(), model()
    b["neck.kernel"] = b.pop("head.weight")
    compared = Compared(tmp_path, a, b)
    paired = compared.ask("match", match="auto", selected=[])
    assert paired.body["counts"]["only_a"] == paired.body["counts"]["only_b"] == 0
    facts = compared.facts("neck.kernel")
    assert (facts["key_a"], facts["by"]) == ("head.weight", "content")
    assert paired.body["renamed"] == {"content": 1}
    shown = compared.ask("rows", chips=["renamed"])
    assert (shown.body["matched"], compared.keys(shown)) == (1, ["head.weight"])
    compared.measure()
    assert compared.ask("rows", chips=["renamed", "changed"]).body["matched"] == 0
    assert compared.ask("rows", chips=[]).body["matched"] is None


@pytest.mark.parametrize("form", ["json", "csv", "lines", "markdown", "html"])
def test_that_what_was_found_is_told_in_every_form(tmp_path: Path, form: str) -> None:
    a, b = {"model": model(), "epoch": 1}, {"model": model(), "epoch": 2}
    b["model"]["blocks.2.fc.weight"] = b["model"]["blocks.2.fc.weight"] * 2
    del b["model"]["head.weight"]
    compared = Compared(tmp_path, a, b)
    compared.measure()
    made = bytes(compared.ask("report", form=form).buffers["text"]).decode()
    assert "blocks.2.fc.weight" in made
    assert ("only in A" in made) or ("only_a" in made)
    if form == "csv":
        assert len(made.splitlines()) == 13
    else:
        assert "epoch" in made


def test_that_averages_and_optimizers_are_compared_and_what_stands_alone_is_told(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    weights = {key: value.detach().clone() for key, value in net.state_dict().items()}
    training = {"model": weights, "optimizer": optimizer.state_dict(), "ema": dict(weights), "epoch": 3}
    compared = Compared(tmp_path, training, {**training, "epoch": 4})
    tree = compared.service.tree
    tops = [tree.name_a[row] for row, depth in enumerate(tree.depth) if depth == 0]
    assert tops[:2] == ["weight", "bias"]
    assert {"ema", "optimizer", "values"} <= set(tops)
    assert compared.facts("epoch")["values"] == ["3", "4"]
    assert compared.opened.body["values"] == 1
    alone = Compared(tmp_path, training, {"model": weights, "epoch": 3})
    assert "optimizer (6 tensors)" in alone.opened.body["alone"][0]
    assert alone.opened.body["values"] == 0
    assert alone.opened.body["pairs"] == 2


def test_that_differences_can_be_ignored(tmp_path: Path) -> None:
    a, b = model(), model()
    b["blocks.2.fc.weight"] = b["blocks.2.fc.weight"] + 1e-7
    b["blocks.3.fc.weight"] = b["blocks.3.fc.weight"] + 1
    b["embed.weight"] = b["embed.weight"].double()
    compared = Compared(tmp_path, a, b)
    compared.measure()
    told = compared.ask("ignore", dtype=True, most=1e-5, optimizer=False)
    statuses = compared.statuses(told)
    assert statuses["blocks.2.fc.weight"] == statuses["embed.weight"] == "ignored"
    assert statuses["blocks.3.fc.weight"] == "changed"
    assert told.body["counts"]["ignored"] == 2
    keys = compared.ask("ignore", dtype=False, most=0.0, optimizer=False, keys="blocks.3")
    assert compared.statuses(keys)["blocks.3.fc.weight"] == "ignored"
    assert compared.statuses(keys)["blocks.3.fc.bias"] == "identical"
    compared.ask("fold", selected=[])
    assert compared.ask("numbers", identities=[]).body["counts"]["ignored"] == 1
    with pytest.raises(UsageError):
        compared.ask("ignore", dtype=False, most=0.0, optimizer=False, keys="/(/")
    back = compared.ask("ignore", dtype=False, most=0.0, optimizer=False)
    assert back.body["counts"]["ignored"] == 0


def test_that_rows_are_sorted_by_change_and_come_back_to_file_order(tmp_path: Path) -> None:
    a, b = model(), model()
    b["blocks.1.fc.weight"] = b["blocks.1.fc.weight"] * 1.1
    b["blocks.4.fc.weight"] = b["blocks.4.fc.weight"] * 3
    compared = Compared(tmp_path, a, b)
    compared.measure()
    order = [key for key in compared.keys(compared.ask("rows", sort="rel_l2", descending=True)) if key.count(".") == 1]
    assert order[:2] == ["blocks.4", "blocks.1"]
    order = [key for key in compared.keys(compared.ask("rows", sort="natural")) if key.startswith("blocks.")]
    assert order[:3] == ["blocks.0", "blocks.0.fc.weight", "blocks.0.fc.bias"]


def test_that_stepping_goes_from_difference_to_difference(tmp_path: Path) -> None:
    a, b = model(), model()
    b["blocks.1.fc.weight"] = b["blocks.1.fc.weight"] + 1
    del b["head.weight"]
    compared = Compared(tmp_path, a, b)
    compared.measure()
    compared.ask("rows", all="collapse")
    first = compared.ask("step", row=-1, forwards=True)
    assert first.body["row"] == compared.row("blocks.1.fc.weight")
    assert "blocks.1.fc.weight" in compared.keys(first)
    second = compared.ask("step", row=first.body["row"], forwards=True)
    assert second.body["row"] == compared.row("head.weight")
    assert compared.ask("step", row=second.body["row"], forwards=True).body["row"] == -1


def test_that_the_matrix_has_components_by_depth_and_names_what_is_frozen(tmp_path: Path) -> None:
    a, b = model(), model()
    for block in (3, 4):
        b[f"blocks.{block}.fc.weight"] = b[f"blocks.{block}.fc.weight"] * 1.25
    compared = Compared(tmp_path, a, b)
    compared.measure()
    compared.ask("fold", selected=[])
    where = compared.ask("where")
    assert where.body["components"] == ["fc.weight", "fc.bias"]
    assert where.body["depths"] == ["0", "1", "2", "3", "4"]
    cells = np.frombuffer(where.buffers["cells"]).reshape(2, 5)
    assert cells[0].tolist() == pytest.approx([0, 0, 0, 0.25, 0.25])
    assert cells[1].tolist() == [0] * 5
    rows = np.frombuffer(where.buffers["rows"], np.int32).reshape(2, 5)
    assert rows[0, 3] == compared.row("blocks.3.fc.weight")
    assert "blocks.0 – 2" in where.body["frozen"]
    assert where.body["bars"] is None


def test_that_the_most_changed_are_listed_where_there_is_no_depth(tmp_path: Path) -> None:
    compared = Compared(tmp_path, {"a": torch.ones(3), "b": torch.ones(3)}, {"a": torch.ones(3), "b": torch.zeros(3)})
    compared.measure()
    where = compared.ask("where")
    assert where.body["bars"] == [["b", compared.row("b"), pytest.approx(1.0)]]
    assert compared.ask("find", most_changed=True, limit=1).body["rows"] == [[compared.row("b"), "b"]]


def test_that_the_map_shows_the_gravest_of_what_shares_a_pixel(tmp_path: Path) -> None:
    a, b = model(), model()
    b["head.weight"] = torch.ones(9, 4)
    compared = Compared(tmp_path, a, b)
    compared.measure()
    compared.ask("rows", all="collapse")
    answer = compared.ask("map", height=500)
    assert [WORDS[code] for code in bytes(answer.buffers["status"])] == ["identical", "identical", "shape"]
    assert [WORDS[code] for code in bytes(compared.ask("map", height=1).buffers["status"])] == ["shape"]
    compared.ask("rows", all="expand")
    opened = compared.ask("map", height=500)
    tree = compared.service.tree
    parents = [row for row in range(len(tree)) if tree.flags[row] & CHILDREN]
    assert all(bytes(opened.buffers["status"])[row] == 0 for row in parents)


def test_that_the_scale_is_not_set_by_one_tensor_that_was_almost_zero(tmp_path: Path) -> None:
    a, b = model(20), model(20)
    for key in list(b)[1:]:
        b[key] = b[key] * 1.1
    a["embed.weight"] = torch.full((7, 4), 1e-9)
    b["embed.weight"] = torch.ones(7, 4)
    compared = Compared(tmp_path, a, b)
    assert compared.measure().body["limit"] == pytest.approx(0.1)


def test_that_facts_of_a_pair_have_both_sides_and_the_numbers(tmp_path: Path) -> None:
    a, b = model(), model()
    b["blocks.1.fc.weight"] = b["blocks.1.fc.weight"] * 2
    compared = Compared(tmp_path, a, b)
    assert compared.facts("blocks.1.fc.weight")["pair"]["numbers"] == {}
    compared.measure()
    facts = compared.facts("blocks.1.fc.weight")
    pair = facts["pair"]
    assert pair["status"] == "changed"
    assert pair["numbers"]["rel_l2"] == pytest.approx(1.0)
    assert pair["a"]["source"] != pair["b"]["source"]
    assert pair["a"]["shape"] == [4, 4]
    assert [part for part, _ in facts["path"]][1:] == ["blocks", "1", "fc", "weight"]
    shapes = compared.facts("embed.weight")["pair"]
    assert shapes["relation"] == ""
    above = compared.ask("facts", row=facts["path"][1][1]).body
    assert above["kind"] == "module"
    assert above["counts"] == {"identical": 9, "changed": 1}


def test_that_what_differs_is_taken_by_the_shortest_step(tmp_path: Path) -> None:
    a, b = model(), model()
    for block in (1, 2):
        b[f"blocks.{block}.fc.weight"] = b[f"blocks.{block}.fc.weight"] + 1
    b["extra"] = torch.ones(2)
    compared = Compared(tmp_path, {"model": a}, {"model": b})
    compared.measure()
    one = compared.ask("take", row=compared.row("blocks.1.fc.weight")).body
    assert one["step"]["op"] == "take"
    assert one["step"]["from"] == compared.paths[1]
    assert one["step"]["keys"] == ["blocks.1.fc.weight"]
    assert (one["n"], one["nbytes"], one["state_dict"]) == (1, 64, "model")
    assert compared.ask("take", all=True).body["n"] == 3
    with pytest.raises(NoMatch):
        compared.ask("take", row=compared.row("blocks.3.fc.weight"))


def test_that_a_recipe_is_carried_out_on_a_first(tmp_path: Path) -> None:
    wrapped = {f"net.{key}": value for key, value in model().items()}
    recipe = 'format = "sdviewer-recipe/1"\n[[step]]\nop = "strip"\nprefix = "net."\n'
    compared = Compared(tmp_path, wrapped, model(), recipe=recipe)
    assert compared.opened.body["match"] == "key"
    assert compared.opened.body["a"]["steps"] == 1
    assert compared.facts("head.weight")["key_a"] == "head.weight"


def test_that_two_names_of_one_file_are_told(tmp_path: Path) -> None:
    compared = Compared(tmp_path, model(), model())
    link = tmp_path / "link.pth"
    link.symlink_to(compared.paths[0])
    assert compared.opened.body["one"] == ""
    assert "one file" in compared.ask("open", a=compared.paths[0], b=str(link)).body["one"]
    assert "the same file" in compared.ask("open", a=compared.paths[0], b=compared.paths[0]).body["one"]


def test_that_a_side_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    compared = Compared(tmp_path, model(), model())
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"nothing")
    with pytest.raises(SDViewerError) as failed:
        compared.ask("open", a=compared.paths[0], b=str(bad))
    assert failed.value.path == str(bad)


def test_that_a_file_that_is_replaced_is_told_with_its_side(tmp_path: Path) -> None:
    compared = Compared(tmp_path, model(), model())
    assert compared.ask("changed").body["state"] == "same"
    Path(compared.paths[1]).unlink()
    look = compared.ask("changed").body
    assert (look["state"], look["side"]) == ("gone", "b")


def test_that_numbers_of_other_files_are_left_out(tmp_path: Path) -> None:
    compared = Compared(tmp_path, model(), model())
    identities = [{}, {}]
    assert compared.measure(identities).body["counts"]["identical"] == 0
    assert compared.measure().body["counts"]["identical"] == 12


def test_that_other_pairs_keep_numbers_filter_and_selection(tmp_path: Path) -> None:
    a, b = model(), model()
    b["neck.kernel"] = b.pop("head.weight")
    compared = Compared(tmp_path, a, b)
    compared.measure()
    compared.ask("rows", filter="weight", sort="name")
    row = compared.row("head.weight")
    hand = [[compared.facts("head.weight")["tensors"][0], compared.facts("neck.kernel")["tensors"][1]]]
    again = compared.ask("match", match="key", hand=hand, selected=[row])
    assert again.body["counts"]["identical"] == 11
    assert again.body["to_measure"] == 1
    assert np.frombuffer(again.buffers["measured"], np.uint8).sum() == 11
    tree = compared.service.tree
    assert tree.key_b[again.body["selected"][0]] == "neck.kernel"
    assert all("weight" in key for key in compared.keys(again) if key.count(".") > 1)


def test_that_two_files_that_cannot_be_read_are_both_told(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.pth", "other.pth")]
    for path in paths:
        path.write_bytes(b"nothing")
    with pytest.raises(SDViewerError) as failed:
        Comparison().open({"a": str(paths[0]), "b": str(paths[1])}, no_progress)
    assert failed.value.path == str(paths[0])
    assert "B, other.pth, cannot be read either" in failed.value.remedy
