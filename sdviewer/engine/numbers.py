"""What a worker of the numbers pool answers. It knows no document: each request says where a tensor lies.

Every request but `scan`, `contents` and `warm_up` takes "source", the JSON of a `formats.TensorSource` (`facts` of the
document gives it); those of a pair take "a" and "b" instead, one of which may be missing where that is said.

    overview  {"bins"?: n, "span"?: [low, high]} -> {"summary": Summary, "histogram": Histogram} from one pass;
              buffers "edges" f8, "counts" i8, "value_counts" i8
    glance    {"bins"?} -> as `overview` from a sample, scaled up: "summary" also has "approximate": [fields], "sampled"
    slice     {"x"?, "y"?, "index"?, "rows", "columns", "how"?: "mean" | "max_abs" | "rms", "window"?: [first row, first
              column, rows, columns], "limit"?: of the colours, "most"?: elements to read} -> ReducedSlice;
              buffer "shades" u1 (rows, columns), so that the window computes nothing
    values    {"x", "y", "index"?, "row0", "rows", "col0", "cols"} -> ValuesWindow; buffer "numbers" f8
    line      {"points", "sort"?: bool} -> Line; buffers "low" f8, "high" f8, "flags" u1
    extreme   {"which": "min" | "max"} -> {"index": [place in each dimension] | null}, the first of them
    spectrum  {"how"?: "auto" | "exact" | "randomised"} -> Spectrum; buffers "index" i8, "values" f8
    rows      {"points"} -> {"axes": [Profile]} of output rows and input columns; buffers "0.norm.ordered.low" f8 ...
              (place in "axes", norm | mean | std, ordered | sorted, low | high)
    quantiles {} -> Quantiles; buffers "probabilities" f8, "deviates" f8, "values" f8
    kernels   {"first"?, "channel"?, "rgb"?: bool, "common"?: bool} -> KernelImages; buffers "limits" f8, "shades" u1
    heads     {"axis", "spans": [[first row, one behind the last]]} -> {}; buffers "norms" f8, "stds" f8, "dead" i8
    slice_table   {"window", "x"?, "y"?, "index"?, "rows", "columns", "how"?, "most": numbers} -> SliceTable;
              buffer "lines" (ASCII)
    kernel_table  {"first"?, "channel"?, "rgb"?, "most"} -> KernelTable; buffer "lines"
    row_band  {} -> {"band": RowBand | null}, from a part of the rows where there are many
    pair_slice      as `slice`, "limits"?: of the values and of B - A -> PairSlice; buffers "a", "b", "d" u1
    pair_sides      {"sides": [what `slice` takes of where and how large, a side], "how"?} -> {"a"?, "b"?: ReducedSlice}
                    of one limit; buffers "a", "b" u1, each as far as there is a tensor
    pair_line       {"points"} -> PairLine; buffers "low_a", "high_a", ... f8
    pair_histogram  {"bins"?, "glance"?: bool} -> {"a"?, "b"?: Histogram} over one range; buffers "edges_a" f8,
                    "counts_a" i8, "value_counts_a" i8, ...
    pair_scatter    {"points"?} -> Scatter; buffers "x" f8, "y" f8
    pair_table      {"tables": [[side "a" | "b" | "d", what `slice_table` takes]], "how"?, "most"} -> {"tables": [[side,
                    SliceTable]]}; buffer "lines": a table a side, each below its name where there are several
    pair_value      {"places": [index in A | null, index in B | null]} -> PairValue
    digest    {} -> {"sha256", "problem"}
    checksum  {} -> {"stated": CRC-32 | null, "found": likewise, "problem": "" or what is wrong}    of the whole storage
    contents  {"path", "identity"} -> {"records", "unstated", "nbytes", "wrong", "lost", "broken_off", "problems":
              [[severity, code, message, where]]}: every record read and compared with its stated checksum
              (formats.contents_check); asked of a process of its own, which lets all others go first
    warm_up   {} -> {}, once all is loaded that measures a large tensor
    scan      {"path"} -> what `sdviewer scan --json` says of the file, its first names, and {"counts": {class: n},
              "more": names that are not listed, "gaps": [why it is not complete]}

Bodies are the `to_json` of the types of that name in `sdviewer.stats`; floats that JSON lacks are NaN and Infinity.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sdviewer.core import text
from sdviewer.core.progress import Progress
from sdviewer.engine.frames import Answer
from sdviewer.errors import CorruptCheckpoint
from sdviewer.formats import TensorSource, checksum, open_checkpoint, open_storage
from sdviewer.stats.digest import Digest, sha256
from sdviewer.stats.extremes import extreme
from sdviewer.stats.glance import glance
from sdviewer.stats.histogram import BINS, summary_and_histogram
from sdviewer.stats.kernel_images import kernel_images
from sdviewer.stats.pair_views import (
    POINTS,
    Side,
    pair_histograms,
    pair_line,
    pair_slice,
    pair_value,
    scatter,
    slices_beside,
)
from sdviewer.stats.quantiles import quantiles
from sdviewer.stats.row_band import row_band
from sdviewer.stats.rows import heads, profiles
from sdviewer.stats.slices import line, reduced_slice, values_window
from sdviewer.stats.spectrum import spectrum
from sdviewer.stats.warm_up import warm_up
from sdviewer.stats.written_tables import difference_table, kernel_table, slice_table

if TYPE_CHECKING:
    from sdviewer.formats import OpenStorage

Params = Mapping[str, Any]
Measure = Callable[["OpenStorage", TensorSource, Params, Progress], Answer]
Compare = Callable[[Mapping[str, Side], Params, Progress], Answer]


MOST_NAMES = 2000
"""Names of a file, and gaps in reading it, that the window gets."""


class Numbers:
    """The service of the pool."""

    def __init__(self) -> None:
        measures: dict[str, Measure] = {
            "overview": _overview,
            "glance": _glance,
            "slice": _slice,
            "values": _values,
            "line": _line,
            "extreme": _extreme,
            "spectrum": _spectrum,
            "rows": _rows,
            "quantiles": _quantiles,
            "kernels": _kernels,
            "heads": _heads,
            "slice_table": _slice_table,
            "kernel_table": _kernel_table,
            "row_band": _row_band,
            "digest": _digest,
            "checksum": _checksum,
        }
        comparisons: dict[str, Compare] = {
            "pair_slice": _pair_slice,
            "pair_sides": _pair_sides,
            "pair_line": _pair_line,
            "pair_histogram": _pair_histogram,
            "pair_scatter": _pair_scatter,
            "pair_table": _pair_table,
            "pair_value": _pair_value,
        }
        self.requests: Mapping[str, Callable[[Params, Progress], Answer]] = {
            **{name: _with_storage(measure) for name, measure in measures.items()},
            **{name: _with_sides(compare) for name, compare in comparisons.items()},
            "contents": _contents,
            "scan": _scan,
            "warm_up": _warm_up,
        }


def _with_storage(measure: Measure) -> Callable[[Params, Progress], Answer]:
    def answer(params: Params, progress: Progress) -> Answer:
        source = TensorSource.from_json(params["source"])
        with open_storage(source) as storage:
            return measure(storage, source, params, progress)

    return answer


def _with_sides(compare: Compare) -> Callable[[Params, Progress], Answer]:
    def answer(params: Params, progress: Progress) -> Answer:
        with ExitStack() as stack:
            sides = {}
            for name in ("a", "b"):
                if params.get(name) is not None:
                    source = TensorSource.from_json(params[name])
                    sides[name] = Side(stack.enter_context(open_storage(source)), source.layout)
            return compare(sides, params, progress)

    return answer


def _overview(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    span = params.get("span")
    summary, histogram = summary_and_histogram(
        storage,
        source.layout,
        params.get("bins", BINS),
        span=None if span is None else (span[0], span[1]),
        progress=progress,
    )
    return Answer({"summary": summary.to_json(), "histogram": histogram.to_json()}, histogram.arrays())


def _glance(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = glance(storage, source.layout, params.get("bins", BINS))
    return Answer({"summary": found.summary_json(), "histogram": found.histogram.to_json()}, found.histogram.arrays())


def _slice(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = reduced_slice(storage, source.layout, **_cells(params, "limit"), progress=progress)
    return Answer(found.to_json(), {"shades": found.shades()})


def _cells(params: Params, *more: str) -> dict[str, Any]:
    """What a request says of the part of a slice that it is about, and of the cells wanted of it."""
    named = ("x", "y", "index", "rows", "columns", "how", "window", "most", *more)
    return {name: params[name] for name in named if name in params}


def _values(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = values_window(
        storage,
        source.layout,
        params["x"],
        params["y"],
        params.get("index"),
        params["row0"],
        params["rows"],
        params["col0"],
        params["cols"],
    )
    return Answer(found.to_json(), found.arrays())


def _line(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = line(storage, source.layout, params["points"], sort=bool(params.get("sort")), progress=progress)
    return Answer(found.to_json(), found.arrays())


def _extreme(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = extreme(storage, source.layout, params["which"], progress=progress)
    return Answer({"index": None if found is None else list(found)})


def _spectrum(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = spectrum(storage, source.layout, params.get("how", "auto"), progress=progress)
    return Answer(found.to_json(), found.arrays())


def _rows(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = profiles(storage, source.layout, params["points"], progress=progress)
    arrays = {name: array for place, one in enumerate(found) for name, array in one.arrays(str(place)).items()}
    return Answer({"axes": [one.to_json() for one in found]}, arrays)


def _quantiles(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = quantiles(storage, source.layout, progress=progress)
    return Answer(found.to_json(), found.arrays())


def _kernels(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = kernel_images(
        storage,
        source.layout,
        first=params.get("first", 0),
        channel=params.get("channel", 0),
        rgb=params.get("rgb", False),
        common=params.get("common", False),
        progress=progress,
    )
    return Answer(found.to_json(), found.arrays())


def _heads(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    spans = [(start, stop) for start, stop in params["spans"]]
    return Answer({}, heads(storage, source.layout, params["axis"], spans, progress=progress).arrays())


def _slice_table(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = slice_table(storage, source.layout, **_cells(params), progress=progress)
    return Answer(found.to_json(), {"lines": found.lines.encode("ascii")})


def _kernel_table(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = kernel_table(
        storage,
        source.layout,
        first=params.get("first", 0),
        channel=params.get("channel", 0),
        rgb=params.get("rgb", False),
        most=params["most"],
    )
    return Answer(found.to_json(), {"lines": found.lines.encode("ascii")})


def _row_band(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    found = row_band(storage, source.layout)
    return Answer({"band": None if found is None else found.to_json()})


def _digest(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    if source.stored is None:
        return Answer(Digest(None).to_json())
    with open_storage(source.stored) as stored:
        return Answer(sha256(stored, source.stored.layout, progress=progress).to_json())


def _checksum(storage: OpenStorage, source: TensorSource, params: Params, progress: Progress) -> Answer:
    return Answer(checksum(source, progress=progress).to_json())


def _pair_slice(sides: Mapping[str, Side], params: Params, progress: Progress) -> Answer:
    limits = params.get("limits")
    between = None if limits is None else (limits[0], limits[1])
    found = pair_slice(sides["a"], sides["b"], **_cells(params), limits=between, progress=progress)
    return Answer(found.to_json(), found.shades())


def _pair_sides(sides: Mapping[str, Side], params: Params, progress: Progress) -> Answer:
    fields = ("x", "y", "index", "rows", "columns", "window", "most")
    asked = [{name: one[name] for name in fields if name in one} for one in params["sides"]]
    found = slices_beside(list(sides.values()), asked, params.get("how", "mean"), progress)
    named = list(zip(sides, found, strict=True))
    return Answer({name: one.to_json() for name, one in named}, {name: one.shades() for name, one in named})


def _pair_line(sides: Mapping[str, Side], params: Params, progress: Progress) -> Answer:
    found = pair_line(sides.get("a"), sides.get("b"), params["points"], progress)
    return Answer(found.to_json(), found.arrays())


def _pair_histogram(sides: Mapping[str, Side], params: Params, progress: Progress) -> Answer:
    glance = bool(params.get("glance"))
    found = pair_histograms(list(sides.values()), params.get("bins", BINS), glance=glance, progress=progress)
    named = list(zip(sides, found, strict=True))
    arrays = {f"{key}_{name}": array for name, one in named for key, array in one.arrays().items()}
    return Answer({name: one.to_json() for name, one in named}, arrays)


def _pair_scatter(sides: Mapping[str, Side], params: Params, progress: Progress) -> Answer:
    found = scatter(sides["a"], sides["b"], params.get("points", POINTS), progress)
    return Answer(found.to_json(), found.arrays())


def _pair_table(sides: Mapping[str, Side], params: Params, progress: Progress) -> Answer:
    made = []
    for side, asked in params["tables"]:
        wanted = {name: asked[name] for name in ("window", "x", "y", "index", "rows", "columns") if name in asked}
        wanted |= {"how": params.get("how", "mean"), "progress": progress}
        wanted["most"] = params["most"] // len(params["tables"])
        both = side == "d"
        table = difference_table(sides["a"], sides["b"], **wanted) if both else slice_table(*sides[side], **wanted)
        made.append((side, table))
    heads = {"a": "A\n", "b": "B\n", "d": "B - A\n"} if len(made) > 1 else {}
    lines = "\n\n".join(f"{heads.get(side, '')}{table.lines}" for side, table in made)
    return Answer({"tables": [[side, table.to_json()] for side, table in made]}, {"lines": lines.encode("ascii")})


def _pair_value(sides: Mapping[str, Side], params: Params, progress: Progress) -> Answer:
    return Answer(pair_value([sides.get("a"), sides.get("b")], params["places"]).to_json())


def _contents(params: Params, progress: Progress) -> Answer:
    from sdviewer.formats.contents_check import check_contents

    if hasattr(os, "nice"):
        os.nice(10)
    checkpoint = open_checkpoint(params["path"])
    if asdict(checkpoint.identity) != params["identity"]:
        raise CorruptCheckpoint("the file has changed since it was opened", path=params["path"], code="file_changed")
    found = check_contents(checkpoint, progress=progress)
    shown = [
        [problem.severity, problem.code, text.visible(problem.message, 500), text.visible(problem.where, 300)]
        for problem in found.problems
    ]
    return Answer({**asdict(found), "problems": shown})


def _scan(params: Params, progress: Progress) -> Answer:
    from sdviewer.formats.scanning import scan_file

    found = scan_file(params["path"], progress=progress)
    names = found.globals[:MOST_NAMES]
    counts = Counter(use.cls for use in found.globals)
    body = {**found.to_json(), "globals": [use.to_json() for use in names], "gaps": list(found.gaps[:MOST_NAMES])}
    return Answer({**body, "counts": dict(counts), "more": len(found.globals) - len(names)})


def _warm_up(params: Params, progress: Progress) -> Answer:
    warm_up()
    return Answer({})
