"""What a scan finds: every known way to hide a call, and no alarm over honest files."""

from __future__ import annotations

import argparse
import codecs
import collections
import datetime
import decimal
import enum
import functools
import io
import pathlib
import pickle
import struct
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sdviewer.errors import CorruptCheckpoint
from sdviewer.pickles.emit import emit
from sdviewer.pickles.machine import parse, parse_partial
from sdviewer.pickles.python_line import LONGEST, python_line
from sdviewer.pickles.scan import GlobalUse, Scan, merge, scan_pickle, scan_stream
from tests.pickles.samples import objects, tensors, torch_pickle

_caught: list[str] = []
_armed = False


def _tripwire(event: str, args: tuple[Any, ...]) -> None:
    if _armed and event in ("import", "exec", "compile", "open", "os.system", "subprocess.Popen", "pickle.find_class"):
        _caught.append(event)


@pytest.fixture
def tripwire() -> Iterator[list[str]]:
    """What ran while the test did; an audit hook cannot be taken away again, so it is only switched off."""
    global _armed
    if _tripwire not in _HOOKS:
        sys.addaudithook(_tripwire)
        _HOOKS.append(_tripwire)
    _caught.clear()
    _armed = True
    yield _caught
    _armed = False


_HOOKS: list[Any] = []


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def name(qualified: str) -> bytes:
    module, _, last = qualified.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def stacked(module: str, last: str) -> bytes:
    return text(module) + text(last) + b"\x93"


def call(function: bytes, *args: bytes) -> bytes:
    return function + b"(" + b"".join(args) + b"tR"


def latin1(value: str) -> bytes:
    return call(name("_codecs.encode"), text(value), text("latin1"))


def inside(data: bytes) -> bytes:
    """A whole pickle that loads the pickles in `data`."""
    return b"\x80\x03" + call(name("torch.storage._load_from_bytes"), b"B" + struct.pack("<I", len(data)) + data) + b"."


LS = text("ls")
SYSTEM = call(name("os.system"), LS)

# Each is the body of a pickle, which leaves one object on the stack.
CALLED = [
    "os.system",
    "os.popen",
    "os.execvp",
    "os.spawnlp",
    "os.remove",
    "posix.system",
    "nt.system",
    "subprocess.Popen",
    "subprocess.check_output",
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
    "builtins.open",
    "builtins.__import__",
    "builtins.setattr",
    "__builtin__.eval",
    "__builtin__.execfile",
    "__builtin__.apply",
    "importlib.import_module",
    "runpy.run_path",
    "runpy._run_code",
    "pty.spawn",
    "pip.main",
    "pip._internal.main",
    "cProfile.run",
    "profile.runctx",
    "pydoc.locate",
    "pydoc.pipepager",
    "timeit.timeit",
    "uuid._get_command_stdout",
    "_aix_support._read_cmd_output",
    "_osx_support._read_output",
    "_pyrepl.pager.pipe_pager",
    "imaplib.IMAP4_stream",
    "idlelib.run.Executive",
    "lib2to3.pgen2.grammar.Grammar",
    "numpy.f2py.crackfortran.getlincoef",
    "numpy.testing._private.utils.runstring",
    "numpy.load",
    "torch.utils.bottleneck.__main__.run_cprofile",
    "torch.utils.collect_env.run",
    "torch._inductor.codecache.compile_file",
    "torch._dynamo.guards.GuardBuilder",
    "torch.hub.load",
    "torch.load",
    "torch.serialization.load",
    "torch.jit.load",
    "torch.jit.unsupported_tensor_ops.execWrapper",
    "ensurepip._run_pip",
    "venv.create",
    "distutils.file_util.write_file",
    "doctest.debug_script",
    "code.interact",
    "bdb.Bdb",
    "pdb.run",
    "trace.Trace",
    "webbrowser.open",
    "shutil.rmtree",
    "socket.create_connection",
    "ctypes.CDLL",
    "marshal.loads",
    "types.FunctionType",
    "types.CodeType",
    "pickle.loads",
    "_pickle.loads",
    "pkgutil.resolve_name",
    "operator.attrgetter",
    "operator.methodcaller",
    "asyncio.create_subprocess_shell",
    "logging.FileHandler",
    "multiprocessing.Process",
    "dill._dill._create_function",
    "cloudpickle.cloudpickle._make_function",
    "commands.getoutput",
    "sys.exit",
    "requests.get",
    "urllib.request.urlopen",
    "tarfile.open",
    "zipfile.ZipFile",
    "sqlite3.connect",
    "tempfile.mktemp",
    "joblib.load",
    "io.open",
    "io.FileIO",
]

HIDDEN = {
    "inst": b"(" + LS + b"ios\nsystem\n",
    "obj": b"(" + name("os.system") + LS + b"o",
    "newobj": name("os.system") + LS + b"\x85\x81",
    "newobj_ex": name("os.system") + LS + b"\x85}\x92",
    "stack_global": call(stacked("os", "system"), LS),
    "stack_global from the memo": call(text("os") + b"q\x000" + text("system") + b"q\x010h\x00h\x01\x93", LS),
    "an older value in the slot": call(text("os") + b"q\x000" + text("fine") + b"0h\x00" + text("popen") + b"\x93", LS),
    "dotted": call(stacked("pathlib", "os.system"), LS),
    "dotted further": call(stacked("os", "path.os.system"), LS),
    "module of a module": call(stacked("torch", "os.system"), LS),
    "popped": b"]" + SYSTEM + b"0",
    "popped with a mark": b"](" + SYSTEM + b"1",
    "popped first": SYSTEM + b"0N",
    "popped after obj": b"](" + name("os.system") + LS + b"o0",
    "in a key": b"}(" + SYSTEM + b"K\x01u",
    "in a set": b"\x8f(" + SYSTEM + b"\x90",
    "in a tuple in a key": b"}(" + SYSTEM + b"\x85K\x01u",
    "in a persistent id": b"(" + text("storage") + SYSTEM + b"tQ",
    "in arguments": call(name("collections.OrderedDict"), b"]" + SYSTEM + b"a"),
    "in a state": name("argparse.Namespace") + b")\x81}" + text("a") + SYSTEM + b"sb",
    "left on the stack": SYSTEM + b"N",
    "behind a mark": SYSTEM + b"(N",
    "duplicated": name("os.system") + b"2" + LS + b"\x85R",
    "reused slot": b"(" + name("collections.Counter") + b"q\x00" + name("os.system") + b"q\x00h\x00" + LS + b"\x85Rt",
    "getattr of a module": call(call(name("builtins.getattr"), name("torch.os"), text("system")), LS),
    "getattr to globals": call(name("builtins.getattr"), name("torch.nn.Linear"), text("__globals__")),
    "getattr twice": call(
        name("builtins.getattr"),
        call(name("builtins.getattr"), name("collections.OrderedDict"), text("__init__")),
        text("__globals__"),
    ),
    "getattr of a dangerous one": call(call(name("builtins.getattr"), name("os.path"), text("join")), LS),
    "partial": call(call(name("functools.partial"), name("os.system"), LS)),
    "partial by its state": (
        call(name("functools.partial"), name("builtins.len"))
        + b"("
        + name("os.system")
        + LS
        + b"\x85}Ntb"
    ),
    "map": call(name("builtins.list"), call(name("builtins.map"), name("os.system"), b"]" + LS + b"a")),
    "defaultdict": call(name("collections.defaultdict"), name("os.abort")),
    "reconstructor": call(name("copyreg._reconstructor"), name("subprocess.Popen"), name("builtins.object"), b"N"),
    "as data of a rebuild": call(
        name("torch._tensor._rebuild_from_type_v2"), name("os.system"), name("torch.Tensor"), LS + b"\x85", b"N"
    ),
    "build on a class": name("collections.OrderedDict") + b"N}" + text("__len__") + b"K\x01s\x86b",
    "build on a function": name("numpy.prod") + b"}" + text("__code__") + b"K\x01sb",
    "item of a module": name("os.environ") + text("PATH") + text("/tmp") + b"s",
    "appended to a module": name("sys.path") + text("/tmp") + b"a",
    "loads of bytes": call(name("pickle.loads"), latin1("cos\nsystem\n")),
    "load from bytes": call(name("torch.storage._load_from_bytes"), latin1("cos\nsystem\n(S'ls'\ntR.")),
    "load from bytes that are computed": call(
        name("torch.storage._load_from_bytes"), call(name("zlib.decompress"), text("x"))
    ),
}  # fmt: skip

UNKNOWN = {
    "extension code": b"\x82\x01)R",
    "extension code that is thrown away": b"\x82\x010N",
    "extension code in a call that is thrown away": call(name("collections.OrderedDict"), b"\x82\x01") + b"0N",
    "wide extension code": b"\x84\x01\x00\x00\x00)R",
    "computed name": call(name("builtins.str"), text("os")) + text("system") + b"\x93",
    "computed attribute": call(
        name("builtins.getattr"), name("mypackage.thing"), call(name("builtins.str"), text("x"))
    ),
    "persistent id": b"K\x05Q",
    "persistent id of a call": call(name("mypackage.thing")) + b"Q",
    "text persistent id": b"Pabc\n",
    "getattr of an unknown thing": call(name("builtins.getattr"), name("mypackage.Color"), text("RED")),
    "unknown class": call(name("mypackage.Thing")),
    "unknown names that are not called": name("mypackage.thing"),
    "a dangerous name that is not called": b"]" + name("os.system") + b"a",
    "bytes of an unknown kind": call(name("torch.storage._load_from_bytes"), latin1("PK\x03\x04")),
}


def scan(body: bytes) -> Scan:
    return scan_pickle(parse_partial(b"\x80\x04" + body + b"."), "data.pkl")


@pytest.mark.parametrize("qualified", CALLED)
def test_that_a_known_gadget_is_dangerous_and_never_runs(qualified: str, tripwire: list[str]) -> None:
    module, _, last = qualified.rpartition(".")
    for body in (call(name(qualified), LS), b"(" + LS + b"i" + name(qualified)[1:], call(stacked(module, last), LS)):
        found = scan(body)
        assert found.verdict == "dangerous"
        assert found.complete
        assert found.weights_only_would_load is False
        assert found.globals[0].called
        assert found.globals[0].call is not None
    assert tripwire == []


@pytest.mark.parametrize("how", HIDDEN)
def test_that_a_hidden_call_is_dangerous_and_never_runs(how: str, tripwire: list[str]) -> None:
    found = scan(HIDDEN[how])
    assert found.verdict == "dangerous"
    assert not found.weights_only_would_load
    for cut in (b"", b"\xfe", b"X\xff\xff\xff\xff", b"\x80\x63"):
        broken = scan_pickle(parse_partial(b"\x80\x04" + HIDDEN[how] + cut), "data.pkl")
        assert broken.verdict == "dangerous"
        assert not broken.complete
    assert tripwire == []


@pytest.mark.parametrize("how", UNKNOWN)
def test_that_what_cannot_be_known_is_never_clean(how: str, tripwire: list[str]) -> None:
    found = scan(UNKNOWN[how])
    assert found.verdict == "unknown"
    assert tripwire == []


@pytest.mark.parametrize("how", [how for how in UNKNOWN if how.startswith(("ext", "wide", "comp", "pers", "text"))])
def test_that_what_cannot_be_read_makes_a_scan_incomplete(how: str) -> None:
    found = scan(UNKNOWN[how])
    assert not found.complete
    assert found.gaps[0].startswith("data.pkl: ")


class Color(enum.Enum):
    """A class that a harmless file needs."""

    RED = 1


@pytest.mark.parametrize("protocol", range(6))
def test_that_harmless_data_is_clean(protocol: int) -> None:
    thing = [
        objects()["containers"],
        objects()["sets"],
        objects()["loop"],
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        collections.deque([1]),
        datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        datetime.timedelta(1),
        decimal.Decimal("1"),
        uuid.UUID(int=5),
        pathlib.PurePosixPath("a"),
        argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("x")),
        complex(1, 2),
        range(3),
        b"bytes",
        bytearray(b"abc"),
        np.arange(3),
        np.array(["a", None], dtype=object),
        np.float64(1.5),
        np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
        np.dtype("f4"),
        np.random.RandomState(1),
        np.random.default_rng(1),
        Exception("x"),
    ]
    found = scan_pickle(parse(pickle.dumps(thing, protocol)), "data.pkl")
    assert [(use.name, use.cls) for use in found.globals if use.cls not in ("plain", "torch")] == []
    assert found.verdict == "clean"
    assert found.complete


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("protocol", [2, 4])
def test_that_a_training_checkpoint_is_clean(protocol: int) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    thing = {
        "model": model.state_dict(),
        "tensors": tensors(60),
        "size": torch.Size((1, 2)),
        "dtype": torch.float16,
        "device": torch.device("cuda", 1),
        "sparse": torch.eye(3).to_sparse(),
        "parameter": torch.nn.Parameter(torch.zeros(2)),
        "quantized": torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
        "rng": torch.Generator().manual_seed(1).get_state(),
    }
    found = scan_pickle(parse(torch_pickle(thing, protocol)), "data.pkl")
    assert found.verdict == "clean"
    assert found.weights_only_would_load is (protocol == 2)
    uses = {use.name: use for use in found.globals}
    assert uses["torch._utils._rebuild_tensor_v2"].uses > 60
    assert uses["torch._utils._rebuild_tensor_v2"].called
    assert not uses["torch.FloatStorage"].called


def test_that_an_enum_and_a_bound_method_are_unknown_not_dangerous() -> None:
    for thing in (Color.RED, collections.OrderedDict(a=1).get, functools.partial(len)):
        found = scan_pickle(parse(pickle.dumps(thing, 2)), "data.pkl")
        assert found.verdict == "unknown"


def test_that_a_whole_module_is_unknown() -> None:
    found = scan_pickle(parse(torch_pickle(torch.nn.Linear(2, 3))), "data.pkl")
    assert found.verdict == "unknown"
    assert found.weights_only_would_load is False
    assert [use.name for use in found.globals if use.cls == "unknown"] == ["torch.nn.modules.linear.Linear"]


def test_that_a_tensor_pickled_without_torch_save_is_read_inside() -> None:
    for protocol in range(2, 6):
        found = scan_pickle(parse(pickle.dumps(torch.zeros(3), protocol)), "data.pkl")
        assert found.verdict == "clean"
        assert found.complete
        assert found.pickles > 2
        assert "torch.FloatStorage" in {use.name for use in found.globals}


def test_that_bombs_and_cycles_end() -> None:
    bomb = b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60))
    found = scan(call(name("mypackage.f"), bomb))
    assert found.globals[0].call is not None
    assert len(found.globals[0].call) <= LONGEST
    assert scan(call(name("os.system"), b"]q\x00h\x00a")).verdict == "dangerous"
    deep = b"]" * 50_000 + b"a" * 49_999
    assert scan(call(name("os.system"), deep)).verdict == "dangerous"
    nested = name("mypackage.f") * 20_000 + b")R" + b"\x85R" * 19_999
    assert scan(nested).verdict == "unknown"


def test_that_pickles_inside_pickles_inside_pickles_are_given_up_in_the_end() -> None:
    inner = b"\x80\x02" + SYSTEM + b"."
    for _ in range(4):
        inner = inside(inner)
    assert scan_stream(inner, "x").verdict == "dangerous"
    for _ in range(30):
        inner = inside(inner)
    found = scan_stream(inner, "x")
    assert found.verdict == "unknown"
    assert not found.complete


def test_that_a_call_is_shown_as_python_with_its_untrusted_text_escaped() -> None:
    lines = {
        call(name("os.system"), text("rm \u202e\x1b[0m\n'x'")): r"os.system('rm \u202e\x1b[0m\n\'x\'')",
        call(name("builtins.print"), b"K\x01", b"\x88", b"N", b"G?\xf8\0\0\0\0\0\0"): "print(1, True, None, 1.5)",
        call(name("m.f"), b"](K\x01K\x02e", b"}" + text("a") + b"K\x01s"): "m.f([1, 2], {'a': 1})",
        call(name("m.f"), b"K\x01\x85", b")"): "m.f((1,), ())",
        b"(K\x01im\nf\n": "m.f(1)",
        name("m.f") + b")}" + text("a") + b"K\x01s\x92": "m.f(**{'a': 1})",
        call(name("m.f")) + b"K\x01b": "m.f().__setstate__(1)",
        name("m.f") + b"]R": "m.f(*[])",
        call(name("m.f"), b"\x8a\x40" + b"\x7f" * 64): "m.f(<an int of 511 bits>)",
        call(name("m.f"), b"\x82\x01"): "m.f(<extension>)",
    }  # fmt: skip
    for body, line in lines.items():
        node = parse(b"\x80\x04" + body + b".").root
        assert node is not None
        assert python_line(node) == line
    node = parse(b"\x80\x04" + call(name("m.f"), text("x" * 10_000)) + b".").root
    assert node is not None
    assert len(python_line(node)) <= LONGEST
    assert python_line(node).endswith("…")


def test_that_places_are_byte_offsets_of_the_name_and_its_calls() -> None:
    data = b"\x80\x02" + SYSTEM + b"."
    (use,) = scan_pickle(parse(data), "a/data.pkl").globals
    assert use.where == (f"a/data.pkl:{data.index(b'cos')}", f"a/data.pkl:{data.index(b'R')}")
    assert use.to_json() == {
        "name": "os.system",
        "raw": "os.system",
        "class": "dangerous",
        "uses": 1,
        "called": True,
        "where": list(use.where),
        "paths": [""],
        "call": "os.system('ls')",
    }


def test_that_a_python_2_name_is_judged_by_what_it_becomes() -> None:
    (use,) = scan(call(name("__builtin__.eval"), LS)).globals
    assert (use.name, use.raw, use.cls) == ("builtins.eval", "__builtin__.eval", "dangerous")


def test_that_scans_of_one_file_are_merged() -> None:
    clean = scan(call(name("collections.OrderedDict")))
    evil = scan(SYSTEM)
    broken = scan_pickle(parse_partial(b"\x80\x02}"), "x")
    assert merge([clean, clean]).verdict == "clean"
    assert merge([clean, clean]).globals[0].uses == 2
    both = merge([clean], beside=[evil])
    assert (both.verdict, both.pickles, both.complete) == ("dangerous", 2, True)
    assert both.weights_only_would_load is clean.weights_only_would_load
    assert merge([clean, evil]).weights_only_would_load is False
    assert merge([clean], beside=[broken]).verdict == "unknown"
    assert not merge([clean], beside=[broken]).complete
    assert merge([clean, evil]).globals[0] == evil.globals[0]


def test_that_a_stream_is_scanned_pickle_by_pickle_up_to_its_damage() -> None:
    good = pickle.dumps(collections.OrderedDict(), 2)
    assert scan_stream(good * 2 + b"\x80\x02" + SYSTEM + b"." + b"rest", "x", most=3).verdict == "dangerous"
    cut = scan_stream(good + b"\x80\x02" + SYSTEM, "x")
    assert (cut.verdict, cut.complete, cut.pickles) == ("dangerous", False, 2)
    assert not scan_stream(b"", "x").complete
    buffer = io.BytesIO()
    torch.save(tensors(50), buffer, _use_new_zipfile_serialization=False)
    found = scan_stream(buffer.getvalue(), "x")
    assert (found.verdict, found.pickles, found.complete, found.weights_only_would_load) == ("clean", 5, True, True)


def test_that_number_ids_are_known_in_tar_files_only() -> None:
    for body in (b"K\x05Q", b"P12\n", b"(" + name("torch.FloatStorage") + text("f") + text("s") + b"tQ"):
        pickle_ = parse(b"\x80\x02" + body + b".")
        assert not scan_pickle(pickle_, "x").complete
        assert scan_pickle(pickle_, "x", number_ids=True).complete


def test_that_a_cleaned_file_scans_as_its_result() -> None:
    assert isinstance(scan(SYSTEM).globals[0], GlobalUse)
    body = b"\x80\x02}(" + text("a") + SYSTEM + text("b") + b"K\x01u."
    pickle_ = parse(body)
    from sdviewer.pickles.emit import Edits
    from sdviewer.pickles.nodes import pairs

    assert pickle_.root is not None
    place = next(place for place, _, _ in pairs(pickle_.root))
    result = emit(pickle_, Edits(dropped=frozenset((place,)))).data
    assert scan_pickle(parse(result), "x").verdict == "clean"


def test_that_a_name_that_is_no_text_is_damage() -> None:
    with pytest.raises(CorruptCheckpoint):
        parse(codecs.decode("80044b014b02932e", "hex"))


class _Made:
    """Pickled as one call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("maker", ["__generator_ctor", "__randomstate_ctor", "__bit_generator_ctor"])
def test_that_a_random_generator_may_not_bring_a_maker_of_its_own(maker: str) -> None:
    import os

    made = _Made(getattr(np.random._pickle, maker), ("true", os.system))
    assert scan_stream(pickle.dumps(made, 2), "x").verdict == "dangerous"
    assert scan_stream(pickle.dumps(np.random.default_rng(1), 2), "x").verdict == "clean"


def test_that_an_alias_of_a_function_that_is_called_is_its_call() -> None:
    import os
    import types

    assert scan_stream(pickle.dumps(list[int], 2), "x").verdict == "clean"
    alias = pickle.dumps(_Made(types.GenericAlias, (os.system, (int,))), 2)
    called = alias[:-1] + b"X\x04\x00\x00\x00true\x85R."
    assert scan_stream(called, "x").verdict == "dangerous"
