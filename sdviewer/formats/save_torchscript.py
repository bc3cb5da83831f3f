"""A TorchScript file that holds parameters and no code, for `torch::jit::load` and `named_parameters()` of C++.

torch alone writes these, in a child process: it gets the tensors from a safetensors file that sdviewer has just
written, never from a file of a user. Run as `python -P -m sdviewer.formats.save_torchscript IN OUT`; it prints one line
of JSON.

Facts: torch 2.13 (what `torch.jit.script` does with a module without a forward), measured: every component of a key
that is no word of Python can be a name, digits and blanks too; integers can be parameters.
"""

from __future__ import annotations

import json
import keyword
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sdviewer.core.dtypes import SAFETENSORS_DTYPES
from sdviewer.core.progress import Progress
from sdviewer.core.text import visible
from sdviewer.errors import RepairError, SaveError, UnsupportedContainer
from sdviewer.formats.pieces import Layout, total, write_pieces
from sdviewer.formats.save_safetensors import lay_out_new_safetensors
from sdviewer.formats.temporary import Replacing, TemporaryFile, temporary_file
from sdviewer.formats.tensors_out import TensorOut
from sdviewer.formats.torch_check import end_with_parent, environment_of_torch

if TYPE_CHECKING:
    import torch

_TAKEN = ("__annotations__", "_buffers", "_modules", "_parameters")
"""Names that a module cannot have when it is loaded."""

_SECONDS_BETWEEN_LOOKS = 0.1


def refuse_torchscript(tensors: Sequence[TensorOut]) -> None:
    """Raise where these keys cannot be the names of parameters in modules, or where there is no torch.

    Raises:
        RepairError: a key cannot be one.
        UnsupportedContainer: torch is not there (code `extra_needed`).
    """
    if getattr(sys, "frozen", False) or find_spec("torch") is None:
        raise UnsupportedContainer(
            "torch writes TorchScript files, and it is not installed",
            remedy="Install torch, or choose another container.",
            code="extra_needed",
        )
    modules = {".".join(parts[:n]) for one in tensors if (parts := one.key.split(".")) for n in range(1, len(parts))}
    for one in tensors:
        for part in one.key.split("."):
            if not _can_be_name(part):
                raise _no_name(one.key, f"{visible(part, 40)} is none" if part else "a component is empty")
        if one.key in modules:
            raise _no_name(one.key, "it would be a parameter and a module")


def _can_be_name(part: str) -> bool:
    taken = keyword.iskeyword(part) or part in _TAKEN
    return bool(part) and not taken and part.isprintable() and not set(part) & {'"', "\\"}


def lay_out_for_torchscript(tensors: Sequence[TensorOut]) -> Layout:
    """The safetensors file that torch gets; what it makes of it is about as large."""
    layout = lay_out_new_safetensors(tensors, {}, copies=False)
    return Layout(layout.pieces, ("every tensor is a parameter of a module named by its key; there is no code",))


def write_torchscript(layout: Layout, source: int, temporary: TemporaryFile, progress: Progress) -> None:
    """Write the tensors for torch into a file without a name, and let a child make the TorchScript file of it.

    Raises:
        SaveError: torch could not.
        Cancelled: from `progress`.
    """
    nbytes = total(layout.pieces)
    with temporary_file(f"{temporary.out}.tensors", nbytes=nbytes, replacing=Replacing(allowed=True)) as tensors:
        try:
            write_pieces(layout.pieces, source, tensors.fd, progress)
        except OSError as error:
            raise tensors.error(error) from error
        command = [sys.executable, "-P", "-m", "sdviewer.formats.save_torchscript"]
        child = subprocess.Popen(
            [*command, tensors.readable_path, temporary.readable_path],
            stdin=subprocess.PIPE,  # see `end_with_parent`
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment_of_torch(),
            pass_fds=() if sys.platform == "win32" else (tensors.fd, temporary.fd),
        )
        try:
            why = _outcome(child, lambda: progress(nbytes, nbytes))
        finally:
            child.kill()
            child.communicate()
    if why:
        raise SaveError(f"torch could not write it: {why}", path=temporary.out, remedy="Choose another container.")


def _outcome(child: subprocess.Popen[bytes], still_waiting: Any) -> str:
    """What the child says went wrong, "" when nothing did."""
    while True:
        try:
            child.wait(_SECONDS_BETWEEN_LOOKS)
        except subprocess.TimeoutExpired:
            still_waiting()
            continue
        assert child.stdout is not None
        try:
            return visible(str(json.loads(child.stdout.read())["error"]), 400)
        except (ValueError, KeyError, TypeError):
            return f"it ended with status {child.returncode} and no answer"


def _no_name(key: str, why: str) -> RepairError:
    return RepairError(
        f"{visible(key, 80)} cannot be the name of a parameter in TorchScript: {why}",
        key=key,
        remedy="Rename it first.",
    )


def _made_by_torch(path: str, out: str) -> str:
    """Make the file here: in the child; what is wrong with it, or ""."""
    import torch

    tree: dict[str, Any] = {}
    keys = []
    for key, tensor in _tensors_in(path).items():
        *above, last = key.split(".")
        inside = tree
        for name in above:
            inside = inside.setdefault(name, {})
        inside[last] = tensor
        keys.append(key)
    _module(tree)[1].save(out)
    tree.clear()
    found = set(torch.jit.load(out).state_dict())
    return "" if found == set(keys) else "torch reads other names in it"


def _tensors_in(path: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file that sdviewer has just written; tied ones are one tensor."""
    import torch

    with open(path, "rb") as file:  # noqa: PTH123
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
        nbytes = file.seek(0, 2)
    aliases: dict[str, str] = header.pop("__metadata__")
    whole = torch.from_file(path, shared=False, size=nbytes, dtype=torch.uint8)
    tensors = {}
    for key, entry in header.items():
        begin, end = (8 + length + at for at in entry["data_offsets"])
        dtype = getattr(torch, SAFETENSORS_DTYPES[entry["dtype"]].name)
        # Copied, since TorchScript writes the whole storage that a tensor lies in.
        run = whole[begin:end].clone() if end > begin else torch.empty(0, dtype=torch.uint8)
        tensors[key] = run.view(dtype).reshape(entry["shape"])
    return tensors | {key: tensors[kept] for key, kept in aliases.items()}


def _module(tree: dict[str, Any]) -> tuple[Any, Any]:
    """Type and object of a module with these parameters and modules.

    Made as `torch.jit.script` makes them of a `nn.Module`, which itself cannot have names like `type` or `float`.
    """
    import torch

    builder = torch._C.ConcreteModuleTypeBuilder(torch.nn.Module)
    modules = {name: _module(value) for name, value in tree.items() if isinstance(value, dict)}
    for name in tree:
        if name in modules:
            builder.add_module(name, modules[name][0])
        else:
            builder.add_attribute(name, torch._C.TensorType.get(), True, False)
    kind = builder.build()
    made = torch._C._create_module_with_type(kind.jit_type)
    for name, value in tree.items():
        made.setattr(name, modules[name][1] if name in modules else value)
    return kind, made


def main() -> None:
    """The child."""
    import warnings

    end_with_parent()
    warnings.simplefilter("ignore")
    _, path, out = sys.argv
    error = ""
    try:
        error = _made_by_torch(path, out)
    except Exception as reason:  # torch answers what it does not like with any exception there is
        error = f"{type(reason).__name__}: {str(reason).strip().splitlines()[0] if str(reason).strip() else ''}"
    sys.stdout.write(json.dumps({"error": error}) + "\n")


if __name__ == "__main__":
    main()
