"""What a document's worker process answers. It owns the file, the checkpoint, the plan and the module tree.

Requests (name: parameters -> body of the result, and its buffers). `row` is a row number of the current sheet; rows are
numbered anew by `open` and `edit`, which translate `selected`.

    open      {"path", "recipe"?: TOML text, "selected"?: [row]}  -> {"info": {...}, "dtypes": [...], "rows_total",
              "edit": EDIT, "selected": [row]}; buffers: the sheet's columns (core.sheet.COLUMNS), "text", "visible"
    rows      {"toggle"?: row, "expand"?: [row], "collapse"?: [row], "subtree"?: bool, "all"?: "expand" | "collapse",
              "filter"?: text, "sort"?: "natural" | "name" | "params", "descending"?: bool, "reveal"?: row}
              -> {"matched": n | null, "filter_error": text}; buffers: "visible" (int32 rows), "flags" (all rows)
    facts     {"row"} -> FACTS
    children  {"row", "limit"} -> {"rows": [[row, name, shape, dtype, params]], "more": n}
    find      {"text", "limit"} -> {"rows": [[row, key]]}    for "go to tensor"
    totals    {"rows": [row]} -> {"tensors", "params", "nbytes", "values"}   for a multiple selection
    edit      {"recipe": TOML text, "selected": [row]} -> the same as open, without "info"
    preview   {"recipe": TOML text, "step": {op table}, "limit"} -> PREVIEW
    save      {"recipe", "out", "overwrite", "container"?} -> {"receipt": {...}}        with progress in bytes
    changed   {} -> {"changed": bool, "gone": bool}     is the file on disk still the one that was opened?

    info   {"path", "name", "container", "size", "tensors", "parameters", "state_dicts": [{"dotted", "role", "tensors",
           "parameters", "bytes", "row", "read_only"}], "problems": [[severity, code, message, where]], "writer",
           "byte_order", "can_save", "suffix"}
    EDIT   {"steps": [{"op", "text", "enabled", "matched", "changed", "dead_rules"}], "warnings": [[code, message,
           keys]], "written": n, "dropped": n, "renamed": n, "state_dict": dotted | null}
    FACTS  {"row", "kind", "name", "key", "old_key", "dropped", "state_dict": index | -1, "dotted",
           "path": [[text, row]], "class", "note", "tensors", "params", "nbytes", "share": of all parameters,
           "shape": [..] | null, "dtype", "stride", "storage_offset", "requires_grad", "location", "tensor_kind",
           "storage": {"id", "nbytes", "used_bytes", "byte_offset", "shared_with": [key], "shared_count", "crc"} | null,
           "value": text | null, "value_type", "unreadable", "source": {...} | null (what the numbers pool takes),
           "editable": "" or why its key cannot be edited, "prefix": "module.path." of a module row}
    PREVIEW {"changed": n, "dropped": n, "rows": [[old, new | null, shape, problem]], "more": n,
           "problems": [text], "error": ""}; problem rows come first

Failures arrive as `failed` with {"code", "message", "remedy", "path", "key", "kind": exception class}.
"""

from __future__ import annotations
