"""What the names in a pickle are: torch's own, harmless data holders, known to do harm, or unknown.

A list of dangerous names is never complete, so it decides nothing but the wording: a file is called clean only if every
name in it is on one of the two lists of harmless ones (`TORCH_ALLOWED`, `PLAIN`).

Names are judged as Python 3 would resolve them. A pickle below protocol 3 uses the names of Python 2, and CPython maps
them when it loads any such pickle (`_compat_pickle`, which holds nothing but these tables).
"""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Literal

from sdviewer.core.torch_names import TORCH_NAMES

NameClass = Literal["torch", "plain", "unknown", "dangerous"]

TORCH_ALLOWED: frozenset[str] = TORCH_NAMES
"""`module.name` of what `torch.load(weights_only=True)` accepts."""


def fix_imports(module: str, name: str) -> tuple[str, str]:
    """The Python 3 name of a name as a pickle spells it."""
    if (module, name) in NAME_MAPPING:
        return NAME_MAPPING[module, name]
    return IMPORT_MAPPING.get(module, module), name


def classify(module: str, name: str) -> NameClass:
    """The class of a name (Python 3 spelling), its arguments not considered."""
    qualified = f"{module}.{name}"
    if qualified in TORCH_ALLOWED:
        return "torch"
    if _is_dangerous(module, name):
        return "dangerous"
    return "plain" if name in PLAIN.get(module, ()) else "unknown"


def _is_dangerous(module: str, name: str) -> bool:
    if name in PLAIN.get(module, ()) or name in _NOT_DANGEROUS.get(module, ()):
        return False
    parts = name.split(".")
    # `torch` + "os" is the module os, `pathlib` + "os.system" its function: STACK_GLOBAL walks through attributes.
    if any(part in REACHES_OUT for part in parts):
        return True
    # The same function under another spelling: `os` + "path.x" or `os.path` + "x", `torch` + "hub.load", and
    # `torch` + "storage.io.open" by way of a module that imports it.
    return any(_is_listed(".".join(full)) for full in ((module, *parts), *(parts[i:] for i in range(len(parts) - 1))))


def _is_listed(full: str) -> bool:
    """Whether the list has a dotted name, or the nearest module above it says so."""
    path = full
    while path:
        harmful = DANGEROUS.get(path)
        if harmful is not None:
            rest = full[len(path) + 1 :].split(".")
            return "*" in harmful or rest[0] in harmful or rest[-1] in harmful
        path = path.rpartition(".")[0]
    return False


_BUILTINS = (
    "int float str list dict tuple set frozenset complex range slice bytes bytearray object bool memoryview Ellipsis "
    "NotImplemented NoneType enumerate reversed zip property staticmethod classmethod"
)
_EXCEPTIONS = (
    "Exception BaseException ValueError TypeError KeyError IndexError RuntimeError AttributeError StopIteration "
    "ArithmeticError OverflowError ZeroDivisionError AssertionError NotImplementedError LookupError OSError"
)
_NUMPY_SCALARS = (
    "bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 intc uintc intp uintp longlong ulonglong byte ubyte "
    "short ushort long ulong float16 float32 float64 float128 longdouble half single double complex64 complex128 "
    "complex256 csingle cdouble clongdouble str_ bytes_ void object_ datetime64 timedelta64 generic number integer "
    "signedinteger unsignedinteger inexact floating complexfloating flexible character"
)
_NUMPY_RANDOM = "__randomstate_ctor __generator_ctor __bit_generator_ctor __randomstate_ctor_internal"
_BIT_GENERATORS = "MT19937 PCG64 PCG64DXSM Philox SFC64"
_NUMPY_DTYPES = (
    "Bool Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float16 Float32 Float64 Complex64 Complex128 Str Bytes "
    "Object Void LongDouble DateTime64 TimeDelta64"
)
_PATHS = "Path PurePath PosixPath PurePosixPath WindowsPath PureWindowsPath"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(**names: str) -> dict[str, frozenset[str]]:
    """Module (its dots written as two underscores) -> names."""
    return {module.replace("__", "."): _words(text) for module, text in names.items()}


PLAIN: dict[str, frozenset[str]] = {
    **_table(
        argparse="Namespace",
        array="array _array_reconstructor",
        builtins=f"{_BUILTINS} {_EXCEPTIONS}",
        collections="OrderedDict Counter defaultdict deque ChainMap UserDict UserList UserString",
        copyreg="_reconstructor __newobj__ __newobj_ex__",
        datetime="date time datetime timedelta timezone tzinfo UTC",
        decimal="Decimal",
        fractions="Fraction",
        itertools="count",
        numpy=f"ndarray dtype matrix {_NUMPY_SCALARS}",
        numpy__dtypes=" ".join(f"{kind}DType" for kind in _NUMPY_DTYPES.split()),
        numpy__random="RandomState Generator BitGenerator SeedSequence",
        numpy__random__mtrand="RandomState",
        pathlib=_PATHS,
        http="HTTPMethod HTTPStatus",
        os="stat_result terminal_size",
        signal="Handlers Sigmasks Signals",
        types="GenericAlias SimpleNamespace NoneType EllipsisType NotImplementedType",
        uuid="UUID SafeUUID",
        zoneinfo="ZoneInfo ZoneInfo._unpickle",
    ),
    "numpy.random.bit_generator": _words("SeedSequence BitGenerator __pyx_unpickle_SeedSequence"),
    "pathlib._local": _words(_PATHS),
    "numpy.random._pickle": _words(_NUMPY_RANDOM),
    "numpy.ma.core": frozenset(("_mareconstruct", "MaskedArray")),
    **{
        f"numpy.{core}.{module}": frozenset(names)
        for core in ("core", "_core")
        for module, names in (
            ("multiarray", ("_reconstruct", "scalar", "ndarray", "dtype")),
            ("numeric", ("_frombuffer",)),
        )
    },
    **{f"numpy.random._{kind.lower()}": frozenset((kind,)) for kind in _BIT_GENERATORS.split()},
    "torch._C": frozenset(("Generator",)),
    "torch.jit._pickle": _words(
        "build_intlist build_doublelist build_boollist build_tensorlist build_tensor_from_id restore_type_tag"
    ),
    # The shape of a jagged nested tensor in torch 2.13: a dataclass of three numbers.
    "torch._dynamo.decorators": frozenset(("_DimRange",)),
    # The dataclasses that a distributed checkpoint describes itself with.
    "torch.distributed.checkpoint.metadata": _words(
        "Metadata MetadataIndex TensorStorageMetadata BytesStorageMetadata ChunkStorageMetadata TensorProperties "
        "StorageMeta _MEM_FORMAT_ENCODING"
    ),
    "torch.distributed.checkpoint.filesystem": frozenset(("_StorageInfo",)),
}
"""Module -> names that hold data and do nothing else when a pickle makes one (Python 3 names)."""

_NOT_DANGEROUS: dict[str, frozenset[str]] = {
    "torch._dynamo.convert_frame": _words("CatchErrorsWrapper ConvertFrame ConvertFrameAssert ConvertFrameBox"),
    "torch._dynamo.eval_frame": _words("OptimizeContext OptimizedModule"),
    "torch._dynamo.hooks": frozenset(("Hooks",)),
    "torch._dynamo.repro.after_dynamo": frozenset(("WrapBackendDebug",)),
}
"""What a module of `torch.compile` is pickled as: unpickling sets attributes, and only its forward compiles."""

CALLERS: frozenset[str] = frozenset(
    (
        "functools.partial",
        "functools.reduce",
        "collections.defaultdict",
        "copyreg._reconstructor",
        "copyreg.__newobj__",
        "copyreg.__newobj_ex__",
        "builtins.getattr",
        "numpy.ma.core._mareconstruct",
        *(f"numpy.random._pickle.{name}" for name in _NUMPY_RANDOM.split()),
        "torch._tensor._rebuild_from_type_v2",
        "torch._tensor._rebuild_from_type",
        "torch._utils._rebuild_wrapper_subclass",
    )
)
"""Names that call, or keep to call, what they are given."""

REACHES_OUT: frozenset[str] = _words(
    "os sys posix nt subprocess builtins __builtins__ importlib shutil socket ctypes runpy pty posixpath ntpath "
    "multiprocessing pickle _pickle marshal __import__ __globals__ __subclasses__ __code__ __loader__ __spec__ "
    "__getattribute__ __reduce__ __reduce_ex__ __bases__ __mro__ __dict__ system popen Popen rmtree write_text "
    "write_bytes unlink rmdir load_module exec_module"
)
"""Attributes that lead from a harmless object to the system: of a dotted name, or given to getattr."""

_WHOLE_MODULES = (
    # processes, the interpreter and its machinery
    "os posix nt posixpath ntpath subprocess _posixsubprocess pty tty sys site runpy imp importlib _imp "
    "_frozen_importlib _frozen_importlib_external zipimport pkgutil pydoc codeop compileall py_compile bdb pdb "
    "cProfile profile pstats timeit trace doctest unittest test.support test.libregrtest test.regrtest "
    "test.test_support test.script_helper idlelib lib2to3 _pyrepl _aix_support _osx_support distutils "
    "setuptools pkg_resources ensurepip pip venv gc inspect linecache ctypes _ctypes cffi mmap signal "
    "_signal atexit threading _thread _interpreters _xxsubinterpreters multiprocessing concurrent asyncio platform "
    "pipes pexpect webbrowser antigravity turtle tkinter rlcompleter readline sched syslog winreg _winapi "
    "msvcrt "
    # other programs hidden in data
    "pickle _pickle cPickle pickletools marshal shelve dbm dill cloudpickle joblib jsonpickle yaml "
    # files and the network
    "shutil tempfile glob fileinput filecmp difflib zipfile tarfile sqlite3 _sqlite3 socket socketserver ssl select "
    "selectors ftplib http httplib imaplib nntplib poplib smtplib telnetlib urllib urllib2 urllib3 xmlrpc requests "
    "aiohttp httpx paramiko "
    # torch and NumPy
    "numpy.distutils numpy.f2py numpy.testing numpy.ctypeslib torch.hub torch.jit torch._dynamo torch._inductor "
    "torch.compile torch.package torch.multiprocessing torch.utils.cpp_extension torch.utils.bottleneck "
    "torch.utils.collect_env torch.utils.model_zoo torch.distributed.rpc torch.distributed.elastic"
)

DANGEROUS: dict[str, frozenset[str]] = {
    **{module: frozenset("*") for module in _WHOLE_MODULES.split()},
    "builtins": _words(
        "__import__ __build_class__ apply breakpoint compile delattr eval exec execfile exit globals help input locals "
        "open quit reload setattr vars"
    ),
    "__builtins__": frozenset("*"),
    "_io": frozenset(("FileIO", "open", "open_code")),
    "io": frozenset(("FileIO", "open", "open_code")),
    "bz2": frozenset(("open", "BZ2File")),
    "gzip": frozenset(("open", "GzipFile")),
    "lzma": frozenset(("open", "LZMAFile")),
    "code": _words("InteractiveConsole InteractiveInterpreter compile_command interact"),
    "codecs": frozenset(("open", "register")),
    "commands": _words("getoutput getstatus getstatusoutput mk2arg mkarg"),
    "copyreg": frozenset(("add_extension", "pickle", "constructor", "remove_extension")),
    "logging": frozenset(("FileHandler", "config", "handlers")),
    "operator": frozenset(("attrgetter", "methodcaller", "call", "setitem", "delitem")),
    "_operator": frozenset(("attrgetter", "methodcaller", "call", "setitem", "delitem")),
    "types": frozenset("*"),
    "uuid": frozenset(("_get_command_stdout", "_popen", "getnode")),
    "numpy": _words("load save savez savetxt loadtxt genfromtxt fromfile memmap fromregex tofile"),
    "numpy.lib": frozenset("*"),
    "torch": frozenset(("compile", "load", "save")),
    "torch.serialization": frozenset(("load", "save", "add_safe_globals")),
    "torch.fx": frozenset(("evaluate_guards_expression", "reduce_graph_module", "reduce_package_graph_module")),
    "torch.ops": frozenset(("load_library",)),
    "torch.utils._config_module": frozenset("*"),
    "torch.utils.data.datapipes.utils.decoder": frozenset(("basichandlers",)),
}
"""Module -> names that run commands or code, or reach files and the network; "*": all, in its submodules too."""
