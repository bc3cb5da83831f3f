"""The classes of names: what torch takes, what only holds data, what is known to do harm."""

from __future__ import annotations

import pytest

from sdviewer.pickles.names import PLAIN, TORCH_ALLOWED, classify, fix_imports


def test_that_torchs_list_is_torchs() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals, _get_user_allowed_globals

    assert set(_get_allowed_globals()) <= TORCH_ALLOWED
    assert {*_get_allowed_globals(), *_get_user_allowed_globals()} >= TORCH_ALLOWED


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("__builtin__ set", "builtins set"),
        ("__builtin__ xrange", "builtins range"),
        ("copy_reg _reconstructor", "copyreg _reconstructor"),
        ("cPickle loads", "pickle loads"),
        ("exceptions ValueError", "builtins ValueError"),
        ("torch FloatStorage", "torch FloatStorage"),
    ],
)
def test_that_python_2_names_are_mapped(raw: str, name: str) -> None:
    module, _, last = raw.partition(" ")
    assert " ".join(fix_imports(module, last)) == name


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("collections", "OrderedDict", "torch"),
        ("torch._utils", "_rebuild_tensor_v2", "torch"),
        ("builtins", "set", "torch"),
        ("builtins", "dict", "plain"),
        ("builtins", "eval", "dangerous"),
        ("builtins", "getattr", "unknown"),
        ("datetime", "datetime", "plain"),
        ("uuid", "UUID", "plain"),
        ("uuid", "_get_command_stdout", "dangerous"),
        ("types", "SimpleNamespace", "plain"),
        ("torch._dynamo.decorators", "_DimRange", "plain"),
        ("torch._dynamo.decorators", "disable", "dangerous"),
        ("torch._dynamo.eval_frame", "OptimizedModule", "unknown"),
        ("types", "CodeType", "dangerous"),
        ("types", "GenericAlias", "plain"),
        ("http", "HTTPStatus", "plain"),
        ("http.server", "test", "dangerous"),
        ("os", "stat_result", "plain"),
        ("torch", "storage.io.open", "dangerous"),
        ("code", "InteractiveInterpreter.runcode", "dangerous"),
        ("code.model", "Net", "unknown"),
        ("test", "Net", "unknown"),
        ("test.support", "script_helper.assert_python_ok", "dangerous"),
        ("numpy", "dtype", "plain"),
        ("numpy._core.multiarray", "_reconstruct", "plain"),
        ("numpy.core.multiarray", "scalar", "plain"),
        ("numpy", "load", "dangerous"),
        ("numpy.f2py.crackfortran", "getlincoef", "dangerous"),
        ("os", "system", "dangerous"),
        ("os.path", "join", "dangerous"),
        ("posix", "system", "dangerous"),
        ("pathlib", "PosixPath", "plain"),
        ("pathlib", "os.system", "dangerous"),
        ("pathlib", "PosixPath.write_text", "dangerous"),
        ("torch", "os", "dangerous"),
        ("torch", "load", "dangerous"),
        ("torch", "hub.load", "dangerous"),
        ("torch.hub", "load", "dangerous"),
        ("torch.nn.modules.linear", "Linear", "unknown"),
        ("mypackage", "Model", "unknown"),
        ("", "", "unknown"),
    ],
)
def test_that_names_have_their_class(module: str, name: str, expected: str) -> None:
    assert classify(module, name) == expected


def test_that_plain_names_exist_where_they_are_said_to() -> None:
    import importlib

    missing = []
    for module in ("datetime", "decimal", "fractions", "collections", "argparse", "uuid", "pathlib", "copyreg"):
        found = importlib.import_module(module)
        # `datetime.UTC` came with Python 3.11.
        missing += [f"{module}.{name}" for name in PLAIN[module] if not hasattr(found, name)]
    assert not missing
