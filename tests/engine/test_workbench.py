"""The worker of a workbench, asked as the window asks it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sdviewer.core.fit_sheet import STATUSES, FitSheet
from sdviewer.engine.frames import Answer
from sdviewer.engine.proposing import Proposals
from sdviewer.engine.workbench import Workbench
from sdviewer.errors import UsageError


def model(prefix: str = "", fc: str = "mlp.fc1", head: int = 3) -> dict[str, torch.Tensor]:
    made = {f"{prefix}embed.weight": torch.zeros(5, 4)}
    for i in range(3):
        made[f"{prefix}blocks.{i}.{fc}.weight"] = torch.zeros(8, 4)
        made[f"{prefix}blocks.{i}.{fc}.bias"] = torch.zeros(8)
    return made | {f"{prefix}head.weight": torch.zeros(head, 4)}


class Bench:
    """A worker with its answers in reach."""

    def __init__(self, a: Path, b: Path | str) -> None:
        self.worker = Workbench()
        self.steps: list[dict[str, Any]] = []
        self.state_dict = ""
        target = {"name": str(b)} if isinstance(b, Path) else {"name": "pasted text", "text": b}
        self.answer = self.ask("open", a=str(a), recipe="", target=target, tab="problems")
        self.target = self.answer.buffers["target"]

    def ask(self, name: str, **params: Any) -> Answer:
        return self.worker.requests[name](params, lambda done, total: None)

    @property
    def told(self) -> Mapping[str, Any]:
        return self.answer.body

    def suggestions(self) -> list[Mapping[str, Any]]:
        return list(self.proposed()["suggestions"])

    def proposed(self) -> Mapping[str, Any]:
        tables = {"source": self.answer.buffers["source"], "target": self.target}
        proposal = Proposals().propose(tables, lambda done, total: None).buffers["proposal"]
        return self.ask("proposed", plan=self.told["plan"], proposal=proposal).body

    def carry_out(self, steps: Answer) -> None:
        """Put steps into the recipe, as the window does."""
        at = steps.body.get("at", len(self.steps))
        self.steps[at : at + steps.body.get("instead", 0)] = [table for table, _ in steps.body["steps"]]
        source = {"state_dict": steps.body["state_dict"]} if steps.body["state_dict"] else {}
        self.replan(source)

    def replan(self, source: Mapping[str, str]) -> None:
        recipe = json.dumps({"format": "sdviewer-recipe/1", "source": source, "step": self.steps})
        self.answer = self.ask("recipe", recipe=recipe, selected=[], tab="problems")

    def rows(self, answer: Answer | None = None) -> list[tuple[str, str, str]]:
        """What becomes of each row, and both keys."""
        buffers = {name: memoryview(raw) for name, raw in (answer or self.answer).buffers.items()}
        sheet = FitSheet.from_buffers(buffers)
        words = [STATUSES[code] for code in sheet.columns["status"]]
        return [(word, sheet.words("name_a", row), sheet.words("name_b", row)) for row, word in enumerate(words)]

    def alone(self, **pair: int) -> Answer:
        """The steps of a pair by hand that means nothing but itself."""
        return Answer(self.ask("lesson", **pair).body["variants"][0])

    def row(self, key: str, answer: Answer | None = None) -> int:
        return next(row for row, (word, *keys) in enumerate(self.rows(answer)) if word and key in keys)

    def reasons(self, key: str, answer: Answer | None = None) -> list[str]:
        return [words for _, words in self.ask("why", row=self.row(key, answer)).body["reasons"]]

    def strict(self) -> str:
        return bytes(self.ask("strict").buffers["text"]).decode()


@pytest.fixture
def b(tmp_path: Path) -> Path:
    path = tmp_path / "model.pth"
    torch.save(model(), path)
    return path


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_that_accepting_what_is_safe_makes_a_wrapped_and_renamed_checkpoint_fit(tmp_path: Path, b: Path) -> None:
    a = saved(tmp_path / "a.pth", {"epoch": 3, "state_dict": model("module.", fc="ffn.in")})
    bench = Bench(a, b)
    assert bench.told["counts"] == {"collision": 0, "match": 0, "shape": 0, "missing": 8, "unexpected": 8, "dropped": 0}
    assert bench.told["a"]["state_dict"] == "state_dict"
    assert bench.told["a"]["begins"] == "module."
    verbs = [one["verb"] for one in bench.suggestions()]
    assert verbs[:2] == ["Unwrap", "Strip"]
    for _ in range(4):
        if any(one["safe"] for one in bench.suggestions()):
            bench.carry_out(bench.ask("accept", safe=True))
    assert bench.told["problems"] == 0
    assert bench.strict() == "<All keys matched successfully>"


def test_that_a_preview_shows_the_pairs_it_gives_and_leaves_the_counts_of_before_beside_them(
    tmp_path: Path, b: Path
) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model("module.")), b)
    bench.suggestions()
    seen = bench.ask("preview", at=0, selected=[])
    assert seen.body["before"]["match"] == 0
    assert seen.body["counts"]["match"] == 8
    nothing = {"astray": 0, "unknown": 0, "drops": 0, "left": 0, "worse": 0, "lost": 0, "first": 0, "error": ""}
    assert seen.body["preview"] == {"at": 0, "gain": 8, **nothing}
    assert ("will_match", "module.embed.weight", "embed.weight") in bench.rows(seen)
    back = bench.ask("preview", at=-1, selected=[])
    assert (back.body["before"], back.body["preview"]) == (None, None)


def test_that_a_key_of_another_shape_is_never_dropped_unasked(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model(head=7)), b)
    assert bench.told["counts"]["shape"] == 1
    assert not any(one["safe"] for one in bench.suggestions())
    with pytest.raises(UsageError, match="no suggestion is safe"):
        bench.ask("accept", safe=True)
    why = bench.ask("why", row=bench.row("head.weight")).body
    assert (why["status"], why["drops"], why["pairs"]) == ("shape", True, True)
    bench.carry_out(bench.ask("drop", rows=[bench.row("head.weight")]))
    assert bench.told["counts"] == {"collision": 0, "match": 7, "shape": 0, "missing": 1, "unexpected": 0, "dropped": 1}


def test_that_a_key_is_paired_by_hand_from_either_side(tmp_path: Path, b: Path) -> None:
    for other in ("head.weight", "oddly.named"):
        content = model()
        content["oddly.named"] = content.pop("head.weight")
        bench = Bench(saved(tmp_path / "a.pth", content), b)
        row = bench.row(other)
        offered = bench.ask("partners", row=row, text="", limit=5).body["rows"]
        place, key, shape, fits, now = offered[0]
        assert {key, other} == {"head.weight", "oddly.named"}
        assert (shape, fits, now) == ("3×4", True, "")
        bench.carry_out(bench.alone(row=row, partner=place))
        assert bench.told["problems"] == 0


def test_that_a_name_that_is_taken_is_freed_where_another_key_is_paired_with_it(tmp_path: Path, b: Path) -> None:
    content = model() | {"better.head": torch.ones(3, 4)}
    bench = Bench(saved(tmp_path / "a.pth", content), b)
    offered = bench.ask("partners", row=bench.row("better.head"), text="head", limit=5).body["rows"]
    assert offered[0][1] == offered[0][4] == "head.weight"
    bench.carry_out(bench.alone(row=bench.row("better.head"), partner=offered[0][0]))
    assert bench.told["problems"] == 0
    assert ("match", "better.head", "head.weight") in bench.rows()


def test_that_a_pair_by_hand_can_mean_all_that_are_named_alike(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model(fc="ffn.zero")), b)
    pair = {"row": bench.row("blocks.1.ffn.zero.weight"), "onto": bench.row("blocks.1.mlp.fc1.weight")}
    lesson = bench.ask("lesson", **pair).body
    assert (lesson["key_a"], lesson["key_b"]) == ("blocks.1.ffn.zero.weight", "blocks.1.mlp.fc1.weight")
    alone, same, *others = lesson["variants"]
    assert (alone["n"], alone["fixes"], alone["breaks"]) == (1, 1, 0)
    assert (same["n"], same["fixes"], same["breaks"]) == (6, 6, 0)
    assert same["lines"] == ["blocks.{i}.ffn.zero.{p}", "blocks.{i}.mlp.fc1.{p}"]
    assert all(one["fixes"] > 1 for one in others)
    back = bench.ask("lesson", row=pair["onto"], onto=pair["row"]).body
    assert back == lesson
    bench.carry_out(Answer(same))
    assert bench.told["problems"] == 0


def test_that_what_a_pair_by_hand_would_break_is_told(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model()), b)
    pair = {"row": bench.row("blocks.0.mlp.fc1.bias"), "onto": bench.row("blocks.1.mlp.fc1.bias")}
    lesson = bench.ask("lesson", **pair).body
    assert lesson["variants"][0]["breaks"] == 1
    assert [table["op"] for table, _ in lesson["variants"][0]["steps"]] == ["drop", "rename"]


def test_that_two_keys_of_one_side_are_no_pair(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model("x.")), b)
    for keys in (("x.embed.weight", "x.head.weight"), ("embed.weight", "head.weight")):
        with pytest.raises(UsageError, match="cannot be paired"):
            bench.ask("lesson", row=bench.row(keys[0]), onto=bench.row(keys[1]))


def test_that_partners_of_the_same_number_come_first(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model(fc="ffn.zero")), b)
    row = bench.row("blocks.2.mlp.fc1.weight")
    rows = bench.ask("partners", row=row, text="", limit=3).body["rows"]
    assert rows[0][1] == "blocks.2.ffn.zero.weight"


def test_that_what_is_done_by_hand_during_a_preview_is_about_the_file_without_it(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model("module.")), b)
    bench.suggestions()
    seen = bench.ask("preview", at=0, selected=[])
    row = next(row for row, (_, key, _) in enumerate(bench.rows(seen)) if key == "module.embed.weight")
    assert bench.ask("drop", rows=[row]).body["steps"][0][0]["keys"] == ["module.embed.weight"]


def test_that_a_dismissed_suggestion_stays_away_until_it_is_brought_back(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model("module.")), b)
    before = bench.suggestions()
    left = bench.ask("dismiss", at=0).body
    assert (len(left["suggestions"]), left["dismissed"]) == (len(before) - 1, 1)
    assert len(bench.suggestions()) == len(before) - 1
    assert len(bench.ask("dismiss", all=True).body["suggestions"]) == len(before)


def test_that_suggestions_for_another_recipe_are_not_taken(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model("module.")), b)
    bench.suggestions()
    plan = bench.told["plan"]
    bench.carry_out(bench.ask("accept", at=0))
    with pytest.raises(UsageError) as caught:
        bench.ask("proposed", plan=plan, proposal=b"{}")
    assert caught.value.code == "old_sheet"


def test_that_next_problem_goes_through_all_groups_and_past_what_matches(tmp_path: Path, b: Path) -> None:
    content = model(head=7) | {"extra": torch.zeros(1)}
    del content["embed.weight"]
    bench = Bench(saved(tmp_path / "a.pth", content), b)
    met, row = [], -1
    while (row := bench.ask("step", row=row, forwards=True).body["row"]) >= 0:
        met.append(bench.rows()[row])
    assert met == [
        ("shape", "head.weight", "head.weight"),
        ("missing", "", "embed.weight"),
        ("unexpected", "extra", ""),
    ]


def test_that_the_selected_key_is_found_again_in_other_rows(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model("module.")), b)
    row = bench.row("module.head.weight")
    tree = bench.ask("tab", tab="tree", selected=[row])
    (now,) = tree.body["selected"]
    assert bench.rows(tree)[now] == ("unexpected", "head.weight", "")


def test_that_a_load_message_is_a_target(tmp_path: Path) -> None:
    text = (
        "RuntimeError: Error(s) in loading state_dict for Net:\n"
        '\tMissing key(s) in state_dict: "embed.weight", "head.weight". \n'
        '\tUnexpected key(s) in state_dict: "module.embed.weight", "module.head.weight". '
    )
    content = {"module.embed.weight": torch.zeros(5, 4), "module.head.weight": torch.zeros(3, 4)}
    bench = Bench(saved(tmp_path / "a.pth", content), text)
    assert (bench.told["b"]["kind"], bench.told["b"]["name"], bench.told["keys"]) == ("message", "Net", 2)
    assert bench.strict().splitlines() == [line.removeprefix("RuntimeError: ") for line in text.splitlines()]
    bench.suggestions()
    bench.carry_out(bench.ask("accept", safe=True))
    assert bench.told["problems"] == 0


def test_that_a_recipe_that_fails_is_told_and_what_goes_before_is_shown(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model("module.")), b)
    steps = [{"op": "strip", "prefix": "module."}, {"op": "strip", "prefix": "gone."}]
    recipe = json.dumps({"format": "sdviewer-recipe/1", "step": steps})
    told = bench.ask("recipe", recipe=recipe, selected=[]).body
    assert told["failed"]["step"] == 1
    assert told["counts"]["match"] == 8


@pytest.mark.parametrize("first", ["strip", "drop"])
def test_that_a_missing_key_tells_that_the_recipe_left_out_what_would_be_it(
    tmp_path: Path, b: Path, first: str
) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model("module.")), b)
    strip = {"op": "strip", "prefix": "module."}
    drop = {"op": "drop", "keys": ["head.*" if first == "strip" else "module.head.*"]}
    bench.steps = [strip, drop] if first == "strip" else [drop, strip]
    bench.replan({})
    assert bench.reasons("head.weight")[0] == "The recipe leaves out module.head.weight, which would have this name"
    bench.steps = [drop | {"keys": ["module.head.*"]}]
    bench.replan({})
    assert bench.reasons("head.weight")[0] == "No key has this name"  # it would not have it either


def test_that_a_missing_key_tells_what_is_left_out_by_a_suggestion_or_under_its_own_name(
    tmp_path: Path, b: Path
) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model("module.")), b)
    bench.steps = [{"op": "strip", "prefix": "module."}]
    bench.replan({})
    seen = bench.ask("search", step={"op": "drop", "keys": ["head.*"]}, selected=[])
    said = "leaves out module.head.weight, which would have this name"
    assert bench.reasons("head.weight", seen)[0] == f"This suggestion {said}"
    bench = Bench(saved(tmp_path / "a.pth", model()), b)
    bench.steps = [{"op": "keep", "keys": ["blocks.**"]}]
    bench.replan({})
    assert bench.reasons("head.weight")[0] == "The recipe leaves out the file's key of this name"


def test_that_an_unnamed_worker_says_that_nothing_is_open() -> None:
    with pytest.raises(UsageError) as caught:
        Workbench().requests["preview"]({"at": 0}, lambda done, total: None)
    assert caught.value.code == "not_open"


def test_that_shapes_that_differ_have_choices_which_are_tried_before_one_is_taken(tmp_path: Path) -> None:
    content = model(head=9) | {"head.bias": torch.zeros(9)}
    b = saved(tmp_path / "b.pth", model(head=3) | {"head.bias": torch.zeros(3)})
    bench = Bench(saved(tmp_path / "a.pth", content), b)
    why = bench.ask("why", row=bench.row("head.weight")).body
    assert ["Keep the first 3 of 9 rows.", 1] in why["choices"]
    assert any("b.pth" in words for words, _ in why["choices"])  # the target holds values too
    asked = {"plan": bench.told["plan"], **why["about"]}
    asked["choice"] = why["choices"].index(["Keep the first 3 of 9 rows.", 1])
    for others, gain in ((False, 1), (True, 2)):
        seen = bench.ask("try", **asked, others=others, selected=[])
        assert seen.body["preview"]["gain"] == gain
        assert seen.body["before"]["shape"] == 2
        tried = next(row for row, found in enumerate(bench.rows(seen)) if "head.weight" in found[1:])
        assert bench.ask("why", row=tried).body["choices"] == why["choices"]  # it can still be chosen otherwise
    bench.carry_out(bench.ask("choose", **asked, others=True))
    assert bench.told["problems"] == 0
    with pytest.raises(UsageError):
        bench.ask("choose", **asked, others=True)  # of the rows before


def test_that_a_preview_does_not_claim_shapes_that_nobody_knows(tmp_path: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model("module.")), "\n".join(model()))
    bench.suggestions()
    preview = bench.ask("preview", at=0, selected=[]).body["preview"]
    assert preview["gain"] == preview["unknown"] == 8


def test_that_keys_which_may_be_missing_are_no_problem_and_torchs_words_still_name_them(
    tmp_path: Path, b: Path
) -> None:
    content = model()
    del content["head.weight"]
    bench = Bench(saved(tmp_path / "a.pth", content), b)
    assert bench.told["problems"] == 1
    recipe = json.dumps({"format": "sdviewer-recipe/1", "target": {"allow_missing": ["head.**"]}})
    told = bench.ask("recipe", recipe=recipe, selected=[], tab="problems").body
    assert (told["problems"], told["allowed"], told["keys"]) == (0, 1, 7)
    assert "head.weight" in bench.strict()


def test_that_values_tell_what_names_cannot_where_the_target_is_a_checkpoint(tmp_path: Path) -> None:
    one, two = torch.randn(4, 4), torch.randn(4, 4)
    b = saved(tmp_path / "b.pth", {"left.weight": one, "right.weight": two})
    bench = Bench(saved(tmp_path / "a.pth", {"p.weight": two.clone(), "q.weight": one.clone()}), b)
    # The dialog hands over the keys that it has read already, without values.
    opened = {"a": str(tmp_path / "a.pth"), "recipe": "", "target": {"name": str(b)}, "tab": "problems"}
    bench.answer = bench.ask("open", **opened, built=bench.target)
    tables = {name: bench.answer.buffers[name] for name in ("source", "values")} | {"target": bench.target}
    proposal = Proposals().propose(tables, lambda done, total: None).buffers["proposal"]
    bench.ask("proposed", plan=bench.told["plan"], proposal=proposal)
    bench.carry_out(bench.ask("accept", safe=True))
    matched = {(key_a, key_b) for word, key_a, key_b in bench.rows() if word == "match"}
    assert matched >= {("p.weight", "right.weight"), ("q.weight", "left.weight")}
    assert not bench.answer.buffers["values"]  # nothing is left to be told


def colliding(tmp_path: Path, b: Path, behind: Sequence[dict[str, Any]] = ()) -> Bench:
    """A file with all weights twice, and a recipe that gives both the same keys."""
    content = model() | {f"ema.{key}": tensor + 1 for key, tensor in model().items()}
    bench = Bench(saved(tmp_path / "a.pth", content), b)
    bench.steps = [{"op": "strip", "prefix": "ema.", "when": "any"}, *behind]
    bench.replan({})
    return bench


def test_that_what_would_have_one_name_is_shown_first_with_what_it_comes_from(tmp_path: Path, b: Path) -> None:
    bench = colliding(tmp_path, b, [{"op": "drop", "keys": ["head.weight"]}])
    assert bench.told["failed"]["step"] == 0
    assert bench.told["failed"]["collides"]
    assert bench.told["counts"] == {
        "collision": 16,
        "match": 0,
        "shape": 0,
        "missing": 0,
        "unexpected": 0,
        "dropped": 0,
    }
    assert (bench.told["problems"], bench.told["keys"]) == (16, 8)
    assert bench.rows()[:3] == [
        ("", "collision", ""),
        ("collision", "embed.weight", "embed.weight"),
        ("collision", "ema.embed.weight", "embed.weight"),
    ]
    assert bench.ask("step", row=-1, forwards=True).body["row"] == 1
    why = bench.ask("why", row=2).body
    assert ["warn", "2 keys would be called embed.weight: embed.weight and ema.embed.weight"] in why["reasons"]
    assert any("step 1" in words for _, words in why["reasons"])
    assert any("1 step behind it waits" in words for _, words in why["reasons"])
    words = bench.strict()
    assert words.startswith(
        "No file can be written:\n\t2 keys would be called embed.weight: embed.weight, ema.embed.wei"
    )
    for tab in ("all", "tree"):
        rows = bench.rows(bench.ask("tab", tab=tab, selected=[]))
        assert sum(word == "collision" for word, *_ in rows) == 16


def test_that_a_collision_has_ways_out_for_one_key_and_for_all_alike(tmp_path: Path, b: Path) -> None:
    ways = ["Leave", "Keep", "Keep"]
    for choice, keys in enumerate(("unexpected", "match", "match")):
        for others in (False, True):
            bench = colliding(tmp_path, b)
            why = bench.ask("why", row=bench.row("ema.head.weight")).body
            assert [words.split()[0] for words, _ in why["choices"]] == ways
            assert {count for _, count in why["choices"]} == {7}
            asked = {"plan": bench.told["plan"], **why["about"], "choice": choice, "others": others}
            tried = bench.ask("try", **asked, selected=[])
            left = 0 if others else 14
            assert tried.body["counts"]["collision"] == left
            assert not tried.body["preview"]["error"]
            row = next(row for row, found in enumerate(bench.rows(tried)) if found[1] == "ema.head.weight")
            assert bench.ask("why", row=row).body["choices"] == why["choices"]
            bench.carry_out(bench.ask("choose", **asked))
            assert bench.told["counts"]["collision"] == left
            if others:
                assert bench.told["failed"] is None
                assert bench.told["counts"]["match"] == 8
                assert bench.told["counts"]["unexpected"] == (8 if keys == "unexpected" else 0)


def test_that_keys_that_collide_are_dropped_and_renamed_before_they_do(tmp_path: Path, b: Path) -> None:
    bench = colliding(tmp_path, b)
    rows = [bench.row(key) for key in ("ema.head.weight", "ema.embed.weight")]
    bench.carry_out(bench.ask("drop", rows=rows))
    assert [step["op"] for step in bench.steps] == ["drop", "strip"]
    assert bench.told["counts"]["collision"] == 12
    row = bench.row("ema.blocks.0.mlp.fc1.bias")
    for typed, problem in (("", "cannot be empty"), ("embed.weight", "embed.weight")):
        refused = bench.ask("rename", row=row, key=typed).body
        assert problem in refused["problem"]
        assert not refused["steps"]
    bench.carry_out(bench.ask("rename", row=row, key="other.bias"))
    assert bench.told["counts"]["collision"] == 10
    assert ("unexpected", "ema.blocks.0.mlp.fc1.bias", "") in bench.rows()


def test_that_a_tensor_and_a_module_of_one_name_stay_a_step_that_fails(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model() | {"other": torch.zeros(2)}), b)
    bench.steps = [{"op": "rename", "rules": [["other", "head"]]}]
    bench.replan({})
    assert bench.told["failed"] is not None
    assert bench.told["counts"]["collision"] == 0


def test_that_typing_a_key_makes_it_another_or_what_is_missing(tmp_path: Path, b: Path) -> None:
    content = model()
    content["oddly.named"] = content.pop("head.weight")
    for key, typed in (("oddly.named", "head.weight"), ("head.weight", "oddly.named")):
        bench = Bench(saved(tmp_path / "a.pth", content), b)
        row = bench.row(key)
        assert bench.ask("why", row=row).body["edits"] == ("oddly.named" if key == "oddly.named" else "")
        refused = bench.ask("rename", row=row, key="embed.weight" if key == "oddly.named" else "no.such").body
        assert refused["problem"] and not refused["steps"]
        answer = bench.ask("rename", row=row, key=typed)
        assert answer.body["problem"] == ""
        bench.carry_out(answer)
        assert bench.told["problems"] == 0


def test_that_a_step_that_is_being_made_is_seen_against_the_target(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model(fc="ffn.in") | {"ffn.in": torch.zeros(2)}), b)
    step = {"op": "replace", "find": "ffn.in", "with": "mlp.fc1"}
    seen = bench.ask("search", step=step, selected=[]).body
    assert (seen["preview"]["gain"], seen["preview"]["astray"], seen["preview"]["at"]) == (6, 1, -1)
    assert (seen["before"]["match"], seen["counts"]["match"]) == (2, 8)
    keys = ["blocks.0.mlp.fc1.bias", "mlp.fc1", "head.weight"]
    assert bench.ask("effects", keys=keys).body["effects"] == ["match", "", "match"]
    assert bench.ask("search", step=None, selected=[]).body["preview"] is None


def test_that_a_step_can_be_restricted_to_what_fits_nothing_or_to_rows(tmp_path: Path, b: Path) -> None:
    bench = Bench(saved(tmp_path / "a.pth", model(fc="ffn.in")), b)
    inside = bench.ask("keys", status="unexpected").body
    assert (len(inside["keys"]), inside["common"]) == (6, "ffn.in")
    rows = [bench.row(f"blocks.{i}.ffn.in.weight") for i in range(2)]
    assert bench.ask("keys", rows=rows).body["keys"] == [f"blocks.{i}.ffn.in.weight" for i in range(2)]
    bench = Bench(saved(tmp_path / "x.pth", model("x.")), b)
    assert bench.ask("keys", status="unexpected").body["keys"] is None  # all of them


def test_that_a_tensor_that_is_made_can_collide_too_and_several_can_want_one_key(tmp_path: Path) -> None:
    b = saved(tmp_path / "b.pth", {"b": torch.zeros(2)})
    bench = Bench(saved(tmp_path / "a.pth", {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(3)}), b)
    told = []
    for step in (
        {"op": "fuse", "from": ["a", "c"], "into": "b", "dim": 0},
        {"op": "rename", "rules": [["a", "z"], ["b", "z"], ["c", "z"]]},
    ):
        bench.steps = [step]
        bench.replan({})
        why = bench.ask("why", row=1).body
        told.append((bench.told["counts"]["collision"], why["reasons"][0][1], [words for words, _ in why["choices"]]))
        asked = {"plan": bench.told["plan"], **why["about"], "choice": 0, "others": False}
        bench.carry_out(bench.ask("choose", **asked))
        assert bench.told["failed"] is None
    keeping = [f'Keep "{one}", drop the 2 others' for one in "abc"]
    assert told == [
        (2, "2 keys would be called b: a and b", ['Keep "a", drop the other']),
        (3, "3 keys would be called z: a, b and c", keeping),
    ]


# Several state dicts that are alike


def both(tmp_path: Path, **more: Any) -> Path:
    """A training file whose model and average want the same steps."""
    average = model("module.", fc="ffn.in") | {"module.decay": torch.zeros(1)}
    return saved(tmp_path / "a.pth", {"model": model("module.", fc="ffn.in"), "ema": average, "epoch": 3, **more})


def alike(bench: Bench, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(one[name] for name in ("state_dict", *names)) for one in bench.told["alike"]]


def for_both(bench: Bench, front: str = "model", **more: Any) -> None:
    source = {"state_dict": ["model", "ema"]}
    recipe = json.dumps({"format": "sdviewer-recipe/1", "source": source, "step": bench.steps})
    bench.answer = bench.ask("recipe", recipe=recipe, selected=[], tab="problems", front=front, **more)


def test_that_the_other_state_dicts_that_the_target_fits_are_told(tmp_path: Path, b: Path) -> None:
    other = {"d": {"conv.weight": torch.zeros(7, 7), "conv.bias": torch.zeros(7)}}
    bench = Bench(both(tmp_path, **other), b)
    assert alike(bench, "front", "covered", "keys") == [("model", True, False, 8), ("ema", False, False, 9)]
    assert bench.told["alike"][1]["differs"] == "has module.decay"
    assert Bench(saved(tmp_path / "one.pth", {"model": model("module.")} | other), b).told["alike"] == []


def test_that_of_several_models_the_one_that_the_target_means_is_repaired_and_the_others_can_be(
    tmp_path: Path, b: Path
) -> None:
    other = {f"conv{i}.weight": torch.zeros(7, 7) for i in range(9)}
    file = saved(
        tmp_path / "gan.pth", {"d": other, "g": model("module."), "d_optim": {"state": {}, "param_groups": []}}
    )
    bench = Bench(file, b)
    assert (bench.told["a"]["state_dict"], bench.told["a"]["others"]) == ("g", [["d", "d", 9]])
    assert Bench(file, saved(tmp_path / "d.pth", other)).told["a"]["state_dict"] == "d"
    nothing = {"recipe": "", "selected": [], "tab": "problems"}
    bench.answer = bench.ask("recipe", front="d", **nothing)
    assert (bench.told["a"]["state_dict"], bench.told["a"]["others"]) == ("d", [["g", "g", 8]])
    bench.answer = bench.ask("recipe", front="g", **nothing)
    bench.carry_out(bench.ask("accept", at=0) if bench.suggestions() else bench.answer)
    assert bench.told["a"]["others"] == []  # the recipe is for this one


def test_that_steps_for_both_are_carried_out_on_both_and_previews_tell_of_both(tmp_path: Path, b: Path) -> None:
    bench = Bench(both(tmp_path), b)
    assert "Unwrap" in [one["verb"] for one in bench.suggestions()]
    for_both(bench)
    assert "Unwrap" not in [one["verb"] for one in bench.suggestions()]
    assert alike(bench, "covered", "match") == [("model", True, 0), ("ema", True, 0)]
    seen = bench.ask("preview", at=0, selected=[]).body["alike"]
    assert seen[1]["match"] == seen[0]["match"] > 0
    assert seen[1]["differs"] == "has decay"
    while found := [one for one in bench.suggestions() if one["safe"]]:
        bench.steps.append(found[0]["step"])
        for_both(bench)
    assert alike(bench, "match", "problems") == [("model", 8, 0), ("ema", 8, 1)]
    for_both(bench, front="ema")
    assert bench.told["a"]["state_dict"] == "ema"
    assert bench.told["counts"]["unexpected"] == 1


def test_that_a_suggestion_that_one_of_them_does_not_stand_is_not_safe(tmp_path: Path, b: Path) -> None:
    average = model("module.") | {"embed.weight": torch.zeros(5, 4)}
    bench = Bench(saved(tmp_path / "a.pth", {"model": model("module."), "ema": average}), b)
    assert bench.told["a"]["state_dict"] == "model"
    assert next(one for one in bench.suggestions() if one["verb"] == "Strip")["safe"]
    for_both(bench)
    strip = next(one for one in bench.suggestions() if one["verb"] == "Strip")
    assert not strip["safe"]
    assert "ema" in strip["cautions"][0][1]
    with pytest.raises(UsageError, match="ema"):
        bench.ask("accept", at=0)
    bench.steps.append({"op": "strip", "prefix": "module.", "when": "any"})
    for_both(bench, front="ema")
    assert bench.told["failed"]["collides"]
    assert bench.told["counts"]["collision"] == 2
    for_both(bench)
    assert bench.told["counts"].get("collision", 0) == 0


def test_that_a_state_dict_that_the_recipe_is_not_for_comes_to_the_front_only_before_there_are_steps(
    tmp_path: Path, b: Path
) -> None:
    bench = Bench(both(tmp_path), b)
    bench.answer = bench.ask("recipe", recipe="", selected=[], tab="problems", front="ema")
    assert bench.told["a"]["state_dict"] == "ema"
    assert bench.ask("drop", rows=[bench.row("module.decay")]).body["state_dict"] == "ema"
    bench.steps = [{"op": "strip", "prefix": "module."}]
    recipe = json.dumps({"format": "sdviewer-recipe/1", "source": {"state_dict": "model"}, "step": bench.steps})
    bench.answer = bench.ask("recipe", recipe=recipe, selected=[], tab="problems", front="ema")
    assert alike(bench, "front", "covered") == [("model", True, True), ("ema", False, False)]
    assert bench.told["alike"][1]["match"] == 2


def test_that_a_row_that_only_the_preview_has_can_be_asked_about(tmp_path: Path) -> None:
    adapter = {"model.q.lora_A.weight": torch.zeros(2, 4), "model.q.lora_B.weight": torch.zeros(4, 2)}
    base = saved(tmp_path / "base.pth", {"model.q.weight": torch.zeros(4, 4)})
    bench = Bench(base, saved(tmp_path / "a.pth", adapter))
    assert bench.told["b"]["adapter"]["merged"]
    assert [one["verb"] for one in bench.suggestions()] == ["Take", "Merge adapter"]
    bench.answer = bench.ask("preview", at=0, selected=[])
    why = bench.ask("why", row=bench.row("model.q.lora_A.weight")).body
    assert (why["status"], why["about"]["entry"], why["drops"]) == ("unexpected", -1, False)
    merged = bench.ask("accept", at=1)
    assert [table["op"] for table, _ in merged.body["steps"]] == ["take", "merge_lora"]


def test_that_an_average_that_counts_outside_of_its_prefix_is_stripped_too(tmp_path: Path, b: Path) -> None:
    average = model("module.") | {"n_averaged": torch.tensor(3)}
    bench = Bench(saved(tmp_path / "a.pth", {"model": model("module."), "ema": average}), b)
    for_both(bench)
    (strip,) = bench.suggestions()
    assert strip["safe"]
    bench.steps.append(strip["step"])
    for_both(bench)
    assert alike(bench, "match", "differs") == [("model", 8, ""), ("ema", 8, "has n_averaged")]
