"""Every command of the window, in one table: text, shortcut, icon, menu, when it is enabled, what it calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from PySide6.QtGui import QKeySequence

from sdviewer.gui.dialogs.forms import FORMS

Key = QKeySequence.StandardKey

MENUS: Final = ("&File", "&Edit", "&View", "&Compare", "&Repair", "&Help")
SUBMENUS: Final = {
    "keys": "",
    "shapes": "S&hapes",
    "values": "Va&lues",
    "sizes": "S&izes and layouts",
    "file": "&Whole file",
}
"""The submenu of the Repair menu for each group of operations; "" is the menu itself."""
SUBMENU_ICONS: Final = {"shapes": "shape", "values": "value", "sizes": "repair", "file": "file"}


@dataclass(frozen=True, slots=True)
class State:
    """What enablement looks at: the tab in front, and what is selected in it."""

    document: bool = False
    tree: bool = False
    selected: bool = False
    value: bool = False
    not_editable: str = "Select a row first."
    not_droppable: str = "Select a row first."
    undo: str = ""
    redo: str = ""
    steps: bool = False
    recipe: bool = False
    fails: bool = False
    not_clean: str = "Open a file first."
    not_checkable: str = ""
    not_measurable: str = ""
    tabs: int = 0
    comparison: bool = False
    pair: bool = False
    series: bool = False
    paired_tensor: bool = False
    takeable: bool = False
    workbench: bool = False
    droppable_key: bool = False
    editable_key: bool = False


Condition = Callable[[State], str]
"""Why a command is not possible, "" where it is: the reason is its tooltip."""


def always(state: State) -> str:
    """Nothing stands against it."""
    return ""


def with_document(state: State) -> str:
    """A file is open."""
    return "" if state.document else "Open a file first."


def with_tree(state: State) -> str:
    """The tree is on the screen."""
    return "" if state.tree else with_document(state) or "Show the tensors first (Ctrl+1)."


def with_files(state: State) -> str:
    """A file is open, or two are compared, or one is repaired, or a series of them."""
    return "" if state.comparison or state.series or state.workbench else with_document(state)


def with_rows(state: State) -> str:
    """A tree is on the screen, of a file or of two."""
    return "" if state.comparison or state.workbench else with_tree(state)


def with_repair(state: State) -> str:
    """The recipe of a file can be changed, in its own tab or where it is repaired."""
    return "" if state.workbench else with_document(state)


def with_workbench(state: State) -> str:
    """A file is repaired to fit something."""
    return "" if state.workbench else "Repair a file to fit something first (Ctrl+Shift+R)."


def with_steps_to_go(state: State) -> str:
    """Rows are shown among which the next one that matters can be looked for."""
    return "" if state.workbench else with_comparison(state)


def with_comparison(state: State) -> str:
    """Two files are compared."""
    return "" if state.comparison else "Compare two files first (Ctrl+D)."


def with_pair(state: State) -> str:
    """A pair of two tensors is selected."""
    return with_comparison(state) or ("" if state.pair else "Select a pair of two tensors first.")


def with_tensor(state: State) -> str:
    """A tensor of a comparison, or a key of a workbench, is selected that can be paired."""
    return with_steps_to_go(state) or ("" if state.paired_tensor else "Select a tensor first.")


def with_takeable(state: State) -> str:
    """Something of B is selected in a comparison."""
    return with_comparison(state) or ("" if state.takeable else "Select a tensor or a module that B has.")


def with_selection(state: State) -> str:
    """Something is selected."""
    return with_tree(state) or ("" if state.selected else "Select a row first.")


def with_value(state: State) -> str:
    """What is selected is one value."""
    return with_selection(state) or ("" if state.value else "Select one value, or a tensor of a single number.")


def with_editable(state: State) -> str:
    """What is selected has a key that can be edited."""
    if state.workbench:
        return "" if state.editable_key else "Select a key first."
    return with_selection(state) or state.not_editable


def with_droppable(state: State) -> str:
    """What is selected can be left out of a saved copy."""
    if state.workbench:
        return "" if state.droppable_key else "Select a key of the file first."
    return with_selection(state) or state.not_droppable


def with_steps(state: State) -> str:
    """The recipe does something."""
    return with_writable(state) or ("" if state.steps else "There is nothing to save: no key was changed.")


def with_writable(state: State) -> str:
    """A copy can be written, of a file that is not edited too."""
    if (state.document or state.workbench) and state.fails:
        return "A step of the recipe does not go through: change it or switch it off first."
    return with_repair(state)


def with_recipe(state: State) -> str:
    """There is a recipe."""
    return with_repair(state) or ("" if state.recipe else "There is no recipe yet: nothing was changed.")


def with_pickle(state: State) -> str:
    """There is a pickle that a clean copy could be made of."""
    return with_document(state) or state.not_clean


def with_checksums(state: State) -> str:
    """There is something to compare the bytes with."""
    return with_document(state) or state.not_checkable


def with_unmeasured(state: State) -> str:
    """There are tensors whose numbers are not known."""
    return with_files(state) or state.not_measurable


def with_undo(state: State) -> str:
    """There is something to undo."""
    return "" if state.undo else "Nothing to undo."


def with_redo(state: State) -> str:
    """There is something to redo."""
    return "" if state.redo else "Nothing to redo."


def with_tabs(state: State) -> str:
    """A tab is open."""
    return "" if state.tabs else "No file is open."


@dataclass(frozen=True, slots=True)
class Action:
    """One command. `method` is where the main window has it; `shortcuts` are standard keys or texts."""

    id: str
    text: str
    menu: str
    method: str
    shortcuts: tuple[QKeySequence.StandardKey | str, ...] = ()
    icon: str = ""
    condition: Condition = always
    tip: str = ""
    separator: bool = False
    submenu: str = ""


ACTIONS: Final = (
    Action("open", "&Open…", "&File", "files.open_dialog", (Key.Open,), "open", tip="Look inside a checkpoint"),
    Action(
        "open_folder",
        "Open &folder…",
        "&File",
        "files.open_folder_dialog",
        ("Ctrl+Shift+O",),
        "open",
        tip="A checkpoint of several files: an index and its shards, or what a distributed run wrote",
    ),
    Action(
        "open_series",
        "Ope&n folder as a series…",
        "&File",
        "series.ask_folder",
        (),
        "history",
        tip="Several checkpoints of one run: metrics, norms, keys and changes over their steps",
    ),
    Action(
        "open_series_files",
        "Open f&iles as a series…",
        "&File",
        "series.ask_files",
        (),
        "history",
        tip="Several checkpoints of one run: metrics, norms, keys and changes over their steps",
    ),
    Action("recent", "Open &recent", "&File", "", (), "history"),
    Action(
        "save",
        "&Save repaired",
        "&File",
        "files.save",
        ("Ctrl+S",),
        "save",
        with_steps,
        "Write a copy with the recipe carried out, where it was written last; this file stays as it is",
        separator=True,
    ),
    Action(
        "save_as",
        "Save repaired &as…",
        "&File",
        "files.save_as",
        ("Ctrl+Shift+S",),
        "save",
        with_steps,
        "Write a copy with the recipe carried out; this file stays as it is",
    ),
    Action(
        "clean_copy",
        "Save a c&lean copy…",
        "&File",
        "files.save_clean",
        (),
        "shield",
        with_pickle,
        "Write a copy with the same tensors and plain values, without objects that torch's own list lacks",
    ),
    Action(
        "slim_copy",
        "Save a sli&m copy…",
        "&File",
        "files.save_slim",
        (),
        "trash",
        with_writable,
        "Write a copy without the optimizer and what else is only needed to go on training",
    ),
    Action(
        "convert",
        "Con&vert…",
        "&File",
        "files.convert",
        (),
        "export",
        with_writable,
        "Write the file in another container: safetensors, sharded, NumPy, ONNX, TorchScript, PyTorch",
    ),
    Action(
        "export",
        "&Export tensors…",
        "&File",
        "files.export",
        ("Ctrl+Shift+E",),
        "export",
        with_selection,
        "Write the selected tensors, or those of a module, into a file of their own: NumPy, text, safetensors, PyTorch",
    ),
    Action(
        "reload",
        "&Reload",
        "&File",
        "files.reload",
        ("F5", "Ctrl+R"),
        "refresh",
        with_files,
        "Read the file again",
    ),
    Action(
        "check_contents",
        "Chec&k contents",
        "&File",
        "files.check_contents",
        (),
        "check",
        with_checksums,
        "Compare all bytes with the checksums that the file states",
    ),
    Action("close", "&Close tab", "&File", "close_tab", (Key.Close,), "x", with_tabs, separator=True),
    Action("reopen", "Reopen closed &tab", "&File", "files.reopen_tab", ("Ctrl+Shift+T",), "history"),
    Action("quit", "&Quit", "&File", "close", ("Ctrl+Q",), "", separator=True),
    Action("undo", "&Undo", "&Edit", "editing.undo", (Key.Undo,), "undo", with_undo),
    Action("redo", "&Redo", "&Edit", "editing.redo", ("Ctrl+Shift+Z", "Ctrl+Y"), "redo", with_redo),
    Action("copy", "&Copy key", "&Edit", "editing.copy_key", (Key.Copy,), "copy", with_selection, separator=True),
    Action("copy_value", "Copy &value", "&Edit", "editing.copy_value", (), "value", with_value),
    Action(
        "copy_row",
        "Copy ro&ws",
        "&Edit",
        "editing.copy_rows",
        (),
        "list",
        with_selection,
        "Key, shape, dtype, parameters and bytes of the selected rows, as a table",
    ),
    Action(
        "copy_python", "Copy as &Python", "&Edit", "editing.copy_python", ("Ctrl+Shift+C",), "script", with_selection
    ),
    Action(
        "copy_snippet",
        "Copy as code that &loads it",
        "&Edit",
        "editing.copy_snippet",
        (),
        "script",
        with_selection,
        "Lines of Python that load the file and take the selected tensors out",
    ),
    Action(
        "paste_error",
        "Paste a load &error…",
        "&Edit",
        "workbenches.paste",
        ("Ctrl+V",),
        "clip",
        with_document,
        "The clipboard holds what a load printed: make the file fit what it says",
    ),
    Action(
        "rename",
        "Re&name",
        "&Edit",
        "rename",
        ("F2",),
        "rename",
        with_editable,
        "The key, or a plain value, in place; of several rows the part they have in common",
        separator=True,
    ),
    Action(
        "drop",
        "&Drop",
        "&Edit",
        "drop",
        (Key.Delete,),
        "trash",
        with_droppable,
        "Leave it out of the saved copy",
    ),
    Action(
        "keep",
        "&Keep only this",
        "&Edit",
        "editing.keep",
        (),
        "pin",
        with_droppable,
        "Leave everything else out of the saved copy: the other keys, or all that stands beside a state dict",
    ),
    Action(
        "find",
        "&Find and replace…",
        "&Edit",
        "editing.find_replace",
        ("Ctrl+H",),
        "replace",
        with_repair,
        "In keys, with a preview of what changes",
        separator=True,
    ),
    Action(
        "accept",
        "&Accept suggestion",
        "&Edit",
        "workbenches.accept",
        (),
        "check",
        with_workbench,
        "Put the suggestion that is previewed into the recipe",
        separator=True,
    ),
    Action(
        "accept_safe",
        "Accept all &safe suggestions",
        "&Edit",
        "workbenches.accept_safe",
        ("Ctrl+Return",),
        "check",
        with_workbench,
        "Those that are proved or likely and have no caution",
    ),
    Action(
        "select_leaf",
        "Select the same na&me",
        "&Edit",
        "editing.select_leaf",
        (),
        "link",
        with_selection,
        "All tensors with this last name: every weight",
        separator=True,
    ),
    Action(
        "select_shape",
        "Select the same s&hape",
        "&Edit",
        "editing.select_shape",
        (),
        "shape",
        with_selection,
        "All tensors of this shape",
    ),
    Action(
        "select_family",
        "Select in all &blocks",
        "&Edit",
        "editing.select_family",
        (),
        "module",
        with_selection,
        "The same place in every block: blocks.*.attn.qkv",
    ),
    Action(
        "repair",
        "&Repair to fit…",
        "&Repair",
        "workbenches.ask",
        ("Ctrl+Shift+R",),
        "repair",
        tip="Make a file fit a model, another checkpoint or the keys of an error: steps are proposed, you accept them",
    ),
    *(
        Action(
            f"step_{form.op}",
            form.title,
            "&Repair",
            f"editing.forms.{form.op}",
            (),
            form.icon,
            with_repair,
            form.tip,
            submenu=SUBMENUS[form.group],
        )
        for form in FORMS
    ),
    Action(
        "open_recipe",
        "&Open recipe…",
        "&Repair",
        "editing.open_recipe",
        (),
        "open",
        with_repair,
        "Carry out on this file what was saved as a recipe",
        separator=True,
    ),
    Action(
        "save_recipe",
        "Sa&ve recipe as…",
        "&Repair",
        "editing.save_recipe",
        (),
        "save",
        with_recipe,
        "As TOML: sdviewer repair carries it out too",
    ),
    Action(
        "export_script",
        "E&xport as script…",
        "&Repair",
        "editing.export_script",
        ("Ctrl+E",),
        "script",
        with_recipe,
        "A Python program that makes the same state dict and needs only torch",
    ),
    Action(
        "edit_recipe",
        "Recipe as &text…",
        "&Repair",
        "editing.edit_recipe",
        (),
        "text",
        with_repair,
        "Steps, notes, what the file must look like and what is expected of each step",
    ),
    Action(
        "compare",
        "&Compare…",
        "&Compare",
        "comparisons.ask",
        ("Ctrl+D",),
        "compare",
        tip="Two checkpoints side by side: which keys pair, where the weights moved and by how much",
    ),
    Action(
        "swap",
        "&Swap A and B",
        "&Compare",
        "comparisons.swap",
        ("Ctrl+Shift+X",),
        "swap",
        with_comparison,
    ),
    Action(
        "next_difference",
        "&Next difference or problem",
        "&Compare",
        "next_difference",
        ("Alt+Down", "F7"),
        "next",
        with_steps_to_go,
        separator=True,
    ),
    Action(
        "previous_difference",
        "&Previous difference or problem",
        "&Compare",
        "previous_difference",
        ("Alt+Up", "Shift+F7"),
        "prev",
        with_steps_to_go,
    ),
    Action(
        "hide_alike",
        "&Hide what is alike",
        "&Compare",
        "comparisons.hide_alike",
        (),
        "eyeoff",
        with_comparison,
        "Show only pairs that differ, or all again",
    ),
    Action("file_order", "&File order", "&Compare", "comparisons.file_order", (), "list", with_comparison),
    Action(
        "pair_by_hand",
        "Pair with another &key…",
        "&Compare",
        "pair_by_hand",
        ("Ctrl+L",),
        "link",
        with_tensor,
        "Choose which tensor of the other side belongs to the selected one",
        separator=True,
    ),
    Action(
        "break_pair",
        "&Break this pair",
        "&Compare",
        "comparisons.break_pair",
        (),
        "x",
        with_pair,
        "Both tensors stand alone then, and can be paired with others",
    ),
    Action(
        "take",
        "&Take from B",
        "&Compare",
        "comparisons.take",
        (),
        "rulearrow",
        with_takeable,
        "Put the selected tensor of B, or what differs in the module, into A: a step of its recipe that can be undone",
        separator=True,
    ),
    Action(
        "take_all",
        "Take &all differences from B",
        "&Compare",
        "comparisons.take_all",
        (),
        "rulearrow",
        with_comparison,
        "All tensors that changed, have another shape or type, or are only in B",
    ),
    Action(
        "export_report",
        "&Export the comparison…",
        "&Compare",
        "comparisons.export_report",
        (),
        "export",
        with_comparison,
        "All pairs as CSV or JSON, what differs as a page for a browser, Markdown or text",
        separator=True,
    ),
    Action(
        "copy_summary",
        "Copy s&ummary",
        "&Compare",
        "comparisons.copy_summary",
        (),
        "copy",
        with_comparison,
        "A few lines for a commit message: what differs, what changed most, what did not change",
    ),
    Action(
        "copy_markdown",
        "Copy summary as &Markdown",
        "&Compare",
        "comparisons.copy_markdown",
        (),
        "copy",
        with_comparison,
    ),
    Action("filter", "&Filter", "&View", "focus_filter", (Key.Find,), "filter", with_rows),
    Action("go", "&Go to tensor or command…", "&View", "go_to", ("Ctrl+K", "Ctrl+P"), "search"),
    Action("expand", "&Expand all", "&View", "expand_all", ("Ctrl++",), "chevd", with_rows, separator=True),
    Action("collapse", "&Collapse all", "&View", "collapse_all", ("Ctrl+-",), "chev", with_rows),
    Action(
        "columns",
        "Col&umns…",
        "&View",
        "choose_columns",
        (),
        "list",
        with_tree,
        "What the tree shows beside names: bytes, mean, std, norm, zeros, min, max, storage, offset",
    ),
    Action(
        "measure",
        "&Measure all tensors",
        "&View",
        "measure_all",
        (),
        "gauge",
        with_unmeasured,
        "Read the numbers of every tensor: columns, filters such as nan or std:>0.1, marks in the tree",
    ),
    Action(
        "overview",
        "O&verview",
        "&View",
        "show_overview",
        ("Ctrl+0",),
        "treemap",
        with_document,
        "The file as a whole: what is large, what is odd, where the bytes are",
        separator=True,
    ),
    Action(
        "show_in_overview",
        "Sho&w in overview",
        "&View",
        "show_in_overview",
        (),
        "treemap",
        with_selection,
        "Where the selected row stands in the Overview: its tile, and its block across depth",
    ),
    Action(
        "details",
        "Tensors and deta&ils",
        "&View",
        "show_details",
        ("Ctrl+1",),
        "tensor",
        with_document,
        "What is selected in the tree",
    ),
    Action(
        "security",
        "&Security",
        "&View",
        "show_security",
        ("Ctrl+2",),
        "shieldw",
        with_document,
        "What loading the file in Python would run",
    ),
    Action(
        "structure",
        "&Raw structure",
        "&View",
        "show_structure",
        ("Ctrl+3",),
        "dict",
        with_document,
        "Every container, value and object, the records and the storages",
    ),
    Action(
        "metadata",
        "&Metadata",
        "&View",
        "show_metadata",
        ("Ctrl+4",),
        "text",
        with_document,
        "What the file says of itself",
    ),
    Action(
        "problems",
        "Pro&blems",
        "&View",
        "show_problems",
        ("Ctrl+5",),
        "warn",
        with_document,
        "What is odd or damaged in the file, with places and consequences",
    ),
    Action(
        "strict",
        "What a strict load sa&ys",
        "&View",
        "workbenches.show_strict",
        (),
        "script",
        with_workbench,
        "The text of the RuntimeError for the file as the recipe makes it",
    ),
    Action("next_tab", "&Next tab", "&View", "next_tab", ("Ctrl+Tab",), "next", with_tabs, separator=True),
    Action("previous_tab", "&Previous tab", "&View", "previous_tab", ("Ctrl+Shift+Tab",), "prev", with_tabs),
    Action("next_pane", "Next p&ane", "&View", "next_pane", ("F6",), "arrow", with_rows),
    Action("theme", "Light or &dark", "&View", "toggle_theme", ("Ctrl+Shift+L",), "moon", separator=True),
    Action("theme_system", "&Theme of the desktop", "&View", "follow_system_theme", (), ""),
    Action("full_screen", "F&ull screen", "&View", "toggle_full_screen", ("F11",), ""),
    Action("shortcuts", "&Shortcuts", "&Help", "show_shortcuts", ("Ctrl+?", "F1"), "info"),
    Action("about", "&About sdviewer", "&Help", "show_about", (), "tensor"),
)


def sequences(action: Action) -> list[QKeySequence]:
    """A command's shortcuts on this desktop."""
    made: list[QKeySequence] = []
    for shortcut in action.shortcuts:
        bound = QKeySequence.keyBindings(shortcut) if isinstance(shortcut, Key) else [QKeySequence(shortcut)]
        made.extend(sequence for sequence in bound if sequence not in made)
    return made
