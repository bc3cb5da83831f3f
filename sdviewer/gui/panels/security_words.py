"""What is said of a scan: facts, in words that neither scream nor soothe. Nothing is ever called safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sdviewer.core import text

Scan = Mapping[str, Any]

_PROGRAMS = ("os", "posix", "nt", "subprocess", "_posixsubprocess", "pty", "commands", "popen2")
_CODE = ("eval", "exec", "compile", "execfile", "runstring", "__import__", "import_module")
_FILES = ("shutil", "tempfile", "io", "_io", "pathlib", "glob", "fileinput", "zipfile", "tarfile", "sqlite3", "os.path")
_NETWORK = ("socket", "urllib", "http", "requests", "ftplib", "smtplib", "ssl", "aiohttp", "httpx", "webbrowser")


class Statement(NamedTuple):
    """One of the three statements: icon, colour token, a few words, a sentence."""

    icon: str
    token: str
    what: str
    why: str


def harm(name: str) -> str:
    """What a name on the list of dangerous ones does, in two or three words."""
    parts = name.split(".")
    if parts[0] in _PROGRAMS or any(part in ("system", "popen", "Popen") for part in parts):
        return "runs a program"
    if parts[-1] in _CODE or parts[0] in ("code", "codeop", "runpy", "timeit", "importlib", "marshal", "types"):
        return "runs code"
    if parts[0] in _NETWORK:
        return "uses the network"
    if parts[0] in _FILES or parts[-1] == "open":
        return "reaches files"
    if parts[0] in ("pickle", "_pickle", "torch", "joblib", "dill", "cloudpickle") and parts[-1] in ("load", "loads"):
        return "loads another pickle"
    return "known to do harm"


def class_words(use: Mapping[str, Any]) -> str:
    """What a name is, in two or three words."""
    kind, name = str(use["class"]), str(use["name"])
    if kind == "dangerous":
        return harm(name)
    if kind == "unknown":
        return "unknown, called" if use.get("called") else "unknown name"
    if kind == "plain":
        return "data holder"
    last = name.rpartition(".")[2]
    return "tensor" if last.startswith("_rebuild") or last.endswith("Storage") else "torch's own list"


def dangerous_calls(scan: Scan) -> list[Mapping[str, Any]]:
    """The names that are known to do harm and that loading would call."""
    return [use for use in scan["globals"] if use["class"] == "dangerous" and use["called"]]


def shown_calls(scan: Scan) -> list[str]:
    """The lines of Python to show: of dangerous names, then of unknown ones that are called."""
    lines = [
        str(use["call"])
        for kind in ("dangerous", "unknown")
        for use in scan["globals"]
        if use["class"] == kind and use["called"] and use.get("call")
    ]
    # A name alone says less than the call that holds it.
    return list(dict.fromkeys(line for line in lines if "(" in line)) or list(dict.fromkeys(lines))


def about_file(problems: Sequence[Sequence[str]], contents: str = "", wrong: bool = False) -> Statement:
    """The file itself: whole, odd or damaged.

    `contents` is what is known of its bytes, as a sentence; `wrong`: some are not those that were written.
    """
    said = _about_structure(problems)
    if wrong and said.what != "Damaged":
        odd = (
            f" {said.why}" if problems else " They are shown as they stand there; all others are as they were written."
        )
        return Statement("warn", "S", "Damaged", contents + odd)
    return said._replace(why=f"{said.why} {contents}".strip())


def _about_structure(problems: Sequence[Sequence[str]]) -> Statement:
    errors = sum(1 for problem in problems if problem[0] == "error")
    warnings = sum(1 for problem in problems if problem[0] == "warning")
    if errors:
        what = f"{text.plural(errors, 'thing')} in it cannot be read; the rest is shown."
        return Statement("warn", "S", "Damaged", what)
    if warnings:
        what = f"It can be read; {text.plural(warnings, 'thing')} in it {'is' if warnings == 1 else 'are'} unusual."
        return Statement("warn", "warn", "Odd", what)
    return Statement("file", "text2", "Whole", "Its structure agrees with itself; nothing odd was found.")


def about_loading(scan: Scan) -> Statement:
    """What loading it in Python would do."""
    calls = dangerous_calls(scan)
    refuses = _torch_words(scan)
    if calls:
        named = _listed([str(use["name"]) for use in calls])
        what = "Runs commands" if any(harm(str(use["name"])) == "runs a program" for use in calls) else "Calls more"
        beside = scan.get("weights_only_would_load") is True
        who = "Whoever unpickles it" if beside else "torch.load(weights_only=False)"
        also = "" if scan["complete"] else " Not all of it could be read, so there may be more."
        return Statement("shieldw", "S", what, f"{who} would call {named}. {refuses}{also}")
    if not scan["complete"]:
        why = "Part of it could not be read or known, so what loading it would run cannot be told."
        return Statement("shieldw", "S", "Cannot tell", f"{why} {refuses}")
    if not scan["pickles"]:
        why = "There is no pickle in it, so loading it runs nothing from the file."
        return Statement("file", "text2", "Plain data", why)
    unknown = [use for use in scan["globals"] if use["class"] == "unknown"]
    if unknown:
        from sdviewer.pickles.scan import ONLY_ATTRIBUTES, takes_only_attributes

        called = [str(use["name"]) for use in unknown if use["called"]] or [str(use["name"]) for use in unknown]
        why = f"With weights_only=False it would import and call {_listed(called)}; none of it is known to do harm."
        if takes_only_attributes(str(use["name"]) for use in unknown):
            why = f"{why} {ONLY_ATTRIBUTES}"
        return Statement("info", "warn", "Needs classes", f"{refuses} {why}")
    why = "Every name that it asks for is on torch's own list or a plain data holder."
    return Statement("file", "text2", "Plain data", f"{refuses} {why}")


def about_us() -> Statement:
    """What sdviewer did."""
    what = "Nothing from the file was run, imported or built; what is shown was read from its bytes."
    return Statement("info", "text2", "Opened without running anything", what)


def kept_words(scan: Scan) -> str:
    """That a copy of the whole file keeps what it calls, "" where it calls nothing that does harm."""
    calls = dangerous_calls(scan)
    if not calls:
        return ""
    named = _listed([str(use["name"]) for use in calls])
    says = f"Unpickling the copy will call {named} as the file does, unless a step leaves it out."
    return f"{says} A clean copy never does."


def banner_words(scan: Scan, damaged: bool) -> tuple[str, str] | None:
    """What the banner says of what loading would do: the act first; None where there is nothing to say."""
    calls = dangerous_calls(scan)
    rest = (
        "What is shown below was read without it; the file is damaged besides."
        if damaged
        else "The weights below were read without it and are complete."
    )
    if calls:
        name = str(calls[0]["name"])
        acts = [harm(str(use["name"])) for use in calls]
        act = "run a program" if "runs a program" in acts else "call a function that is known to do harm"
        also = f" and {len(calls) - 1:,} more" if len(calls) > 1 else ""
        if scan.get("weights_only_would_load") is True:
            how = f"A pickle that torch does not read would call {name}{also}."
            return f"A pickle beside the checkpoint asks Python to {act}. sdviewer did not run it.", f"{rest} {how}"
        how = f"Loading this file with torch.load(weights_only=False) would call {name}{also}."
        return f"This file asks Python to {act} when it is loaded. sdviewer did not run it.", f"{rest} {how}"
    if not scan["complete"]:
        why = "Part of its pickles could not be read or known; sdviewer ran nothing of it."
        if damaged:
            why += " The file is damaged: Problems lists what is lost."
        return "What loading this file in Python would run cannot be told.", why
    return None


def verdict_chip(scan: Scan) -> tuple[str, str, str]:
    """Text, tone and icon of the chip in the head."""
    if dangerous_calls(scan):
        return "Not run", "shape", "shieldw"
    if not scan["complete"]:
        return "Cannot tell", "shape", "shieldw"
    counts = scan.get("counts") or {}
    if counts.get("unknown"):
        return "Needs classes", "warn", "warn"
    return "Plain data", "", "file"


def _torch_words(scan: Scan) -> str:
    answer = scan.get("weights_only_would_load")
    if answer is None:
        return "" if not scan["pickles"] else "Whether torch.load opens it with its default cannot be told."
    return "torch.load opens it with its default." if answer else "torch.load refuses it by default."


def _listed(names: Sequence[str], most: int = 3) -> str:
    unique = list(dict.fromkeys(text.visible(name, 100) for name in names))
    more = f" and {len(unique) - most:,} more" if len(unique) > most else ""
    return ", ".join(unique[:most]) + more
