"""The tree's model: flat rows over arrays."""

from __future__ import annotations

import sys
from array import array

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QAbstractItemModelTester
from PySide6.QtWidgets import QApplication

from sdviewer.core import sheet as sheets
from sdviewer.core.sheet import Sheet
from sdviewer.core.tree import ModuleTree
from sdviewer.gui.models.tree_model import DTYPE, HEADERS, NAME, PARAMS, SHAPE, TreeModel

ROWS = [
    # name, kind, parent, end, depth, note, shape, dtype, params
    ("model", "module", -1, 4, 0, "2 tensors", "", "", 12),
    ("weight", "tensor", 0, 2, 1, "", "3×4", "f32", 12),
    ("ba\ud800d\x1b[1m", "vector", 0, 3, 1, "was old", "0", "f16", 0),
    ("sub", "module", 0, 4, 1, "1", "", "", 0),
    ("epoch", "value", -1, 5, 0, "42", "", "int", 0),
]


def make_sheet() -> Sheet:
    tree = ModuleTree()
    for name, kind, parent, end, depth, note, shape, dtype, params in ROWS:
        tree.name.append(name)
        tree.kind.append(kind)  # type: ignore[arg-type]
        tree.parent.append(parent)
        tree.end.append(end)
        tree.depth.append(depth)
        tree.note.append(note)
        tree.shape.append(shape)
        tree.dtype.append(dtype)
        tree.params.append(params)
        tree.tensor.append(-1)
        tree.old_key.append("old" if "was" in note else "")
        tree.dropped.append(False)
        tree.changed.append(False)
        tree.problem.append(False)
    buffers, dtypes = sheets.pack(tree)
    return Sheet.from_buffers({name: memoryview(buffer) for name, buffer in buffers.items()}, dtypes)


def rows(*nodes: int) -> memoryview:
    return memoryview(array("i", nodes).tobytes())


@pytest.fixture
def model(app: QApplication) -> TreeModel:
    made = TreeModel()
    made.set_sheet(make_sheet(), rows(0, 1, 2, 3, 4))
    return made


def shown(model: TreeModel) -> list[str]:
    return [str(model.index(row, NAME).data()) for row in range(model.rowCount())]


def test_that_qt_finds_nothing_wrong_through_every_change(model: TreeModel) -> None:
    tester = QAbstractItemModelTester(model, QAbstractItemModelTester.FailureReportingMode.Fatal)
    flags = memoryview(bytes(len(ROWS)))
    for nodes in ((0,), (), (4, 0, 1), (0, 1, 2, 3, 4)):
        model.set_rows(rows(*nodes), flags)
        assert model.rowCount() == len(nodes)
    model.set_sheet(make_sheet(), rows(0, 4))
    assert shown(model) == ["model", "epoch"]
    tester.deleteLater()


def test_that_asking_for_cells_loses_no_reference(model: TreeModel) -> None:
    # PySide6 6.12.0 loses one to None or True at each call, and aborts CPython 3.11.
    index = model.index(0, NAME)
    role = Qt.ItemDataRole.DecorationRole
    before = sys.getrefcount(None), sys.getrefcount(True)
    for _ in range(10_000):
        index.data(role)
    after = sys.getrefcount(None), sys.getrefcount(True)
    assert abs(after[0] - before[0]) < 100
    assert abs(after[1] - before[1]) < 100


def test_that_cells_say_what_the_sheet_holds(model: TreeModel) -> None:
    assert [model.index(1, column).data() for column in (NAME, SHAPE, PARAMS, DTYPE)] == ["weight", "3×4", "12", "f32"]
    assert [model.headerData(i, Qt.Orientation.Horizontal) for i in range(4)] == list(HEADERS)


def test_that_a_value_stands_where_a_shape_would(model: TreeModel) -> None:
    assert model.index(4, SHAPE).data() == "42"


def test_that_a_name_out_of_a_file_is_made_printable(model: TreeModel) -> None:
    assert model.index(2, NAME).data() == "ba\\ud800d\\x1b[1m"


def test_that_a_row_is_a_whole_sentence_for_a_screen_reader(model: TreeModel) -> None:
    said = model.index(1, NAME).data(Qt.ItemDataRole.AccessibleTextRole)
    assert said == "weight, tensor, shape 3 by 4, f32, 12 parameters, level 2"
    said = model.index(0, NAME).data(Qt.ItemDataRole.AccessibleTextRole)
    assert said == "model, module, 12 parameters, 2 tensors, collapsed, level 1"
    assert "changed" in str(model.index(2, NAME).data(Qt.ItemDataRole.AccessibleTextRole))


def test_that_a_hidden_node_is_found_at_its_nearest_visible_parent(model: TreeModel) -> None:
    model.set_rows(rows(0, 4), memoryview(bytes(len(ROWS))))
    assert model.row_of(4) == 1
    assert model.row_of(2) == -1
    assert model.visible_ancestor(2) == 0
