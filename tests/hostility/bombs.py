"""The worst inputs by design: small files that ask for much time, memory or depth.

    python -P -m tests.hostility.bombs [N]

gives each to the readers, in a process of its own, and prints one JSON document.

Memory may grow with the size of a file and never with a number in it, so each process is given what a machine that
makes a few nodes for every byte needs, and not more. Time is for people to read: a bomb that hangs is ended.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator

from sdviewer.errors import SDViewerError
from tests.formats.conftest import Member, build_zip
from tests.hostility.gadgets import STORAGE, legacy, torch_zip
from tests.hostility.mutations import SECONDS, check_file, check_pickle, wrapped

MEMORY = 200 << 20
PER_BYTE = 400
"""Bytes of address space beyond what the process has before, and for every byte of the file."""


def deflated(data: bytes) -> bytes:
    """A torch zip whose pickle is deflated."""
    return build_zip([Member("a/data.pkl", data, 8), Member("a/version", b"3")]).data


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def pickles(n: int) -> Iterator[tuple[str, bytes]]:
    """Whole pickles, most of about `n` opcodes."""
    yield "tuples in tuples", b"\x80\x02N" + b"\x85" * n + b"."
    yield "lists in lists", b"\x80\x02" + b"]" * n + b"a" * (n - 1) + b"."
    yield "dicts in dicts", b"\x80\x02" + b"}K\x01" * n + b"}" + b"s" * n + b"."
    deep = 2000
    for wide in (n // 4, n):
        yield (
            f"{wide} values in depth",
            b"\x80\x02" + b"]" * deep + b"(" + b"K\x01" * wide + b"e" + b"a" * (deep - 1) + b".",
        )
    yield "dicts of a long key in depth", b"\x80\x02" + (b"}" + text(b"k" * 200)) * deep + b"N" + b"s" * deep + b"."
    yield "marks in marks", b"\x80\x02" + b"(" * n + b"."
    yield "calls of calls", b"\x80\x02cbuiltins\nlist\n" + b")R" * n + b"."
    yield "states of states", b"\x80\x02ca\nb\n)\x81" + b"}b" * n + b"."
    yield "a graph of 2**60 paths", b"\x80\x02)q\x00" + b"".join(
        b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)
    ) + b"."  # fmt: skip
    yield "a graph of 1000**20 paths", b"\x80\x02)q\x000" + b"".join(
        b"(" + b"h%c" % i * 1000 + b"tq%c0" % (i + 1) for i in range(20)
    ) + b"h\x14."  # fmt: skip
    calls = b"".join(b"ca\nb\nh%ch%c\x86Rq%c0" % (i, i, i + 1) for i in range(60))
    yield "a graph of 2**60 calls", b"\x80\x02)q\x000" + calls + b"h\x3c."
    named = b"".join(b"ca\nb\n)\x81}(X\1\0\0\0ah%cX\1\0\0\0bh%cubq%c0" % (i, i, i + 1) for i in range(60))
    yield "a graph of 2**60 attributes", b"\x80\x02)q\x000" + named + b"h\x3c."
    yield "duplicates", b"\x80\x02]" + b"2" * n + b"0" * n + b"."
    yield "popped for nothing", b"\x80\x02]" + b"N0" * n + b"."
    far = [b"Nr" + struct.pack("<I", 2**32 - 1 - i) + b"0" for i in range(n // 8)]
    yield "a memo of far slots", b"\x80\x02" + b"".join(far) + b"N."
    yield "one slot stored again", b"\x80\x02]" + b"q\x00" * n + b"."
    yield "a long integer", b"\x80\x02\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20) + b"."
    yield "digits", b"\x80\x02I" + b"7" * (1 << 20) + b"\n."
    yield "a long key", b"\x80\x02}" + text(b"\xe2\x80\xae\0<b>" * 200_000) + b"K\x01s."
    yield "a key again", b"\x80\x02}(" + (text(b"k") + b"K\x01") * (n // 4) + b"u."
    yield "many values", b"\x80\x02](" + b"K\x01" * n + b"e."
    yield "many names", b"\x80\x02](" + b"ca\nb\n" * n + b"e."
    yield "many odd texts", b"\x80\x02](" + text(b"\xff") * (n // 4) + b"e."
    yield "many persistent ids", b"\x80\x02](" + b"NQ" * n + b"e."
    yield "many extension codes", b"\x80\x02](" + b"\x82\x01" * n + b"e."
    yield "many pickles", b"\x80\x02N." * n
    yield "many frames", b"\x80\x04" + (b"\x95" + struct.pack("<Q", 2) + b"N0") * (n // 8) + b"N."
    inner = b"N."
    for _ in range(12):
        inner = b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(inner)) + inner + b"\x85R."
    yield "pickles in pickles", inner
    call = b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", 4000) + (b"\x80\x02" + b"(" * 3998) + b"\x85R"
    yield "many pickles in a pickle", b"\x80\x03](" + call * 100 + b"e."
    shape = b"(" + b"K\x01" * 20_000 + b"t"
    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + b"K\x10tQ"
    yield "a tensor of many dimensions", (
        b"\x80\x02}" + text(b"w") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + shape
        + b"\x89}tRs."
    )  # fmt: skip
    huge = b"\x8a\x08" + struct.pack("<q", 1 << 40)
    yield "an expanded tensor", (
        b"\x80\x02}" + text(b"w") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + huge + b"\x85"
        + b"K\x00\x85\x89}tRs."
    )  # fmt: skip


def files() -> Iterator[tuple[str, bytes]]:
    """Whole files."""
    zeros = bytes(60 << 20)
    yield "a deflated pickle of zeros", deflated(b"\x80\x02" + zeros)
    yield "a deflated pickle of strings", deflated(b"\x80\x02](" + text(bytes(1 << 20)) * 50 + b"e.")
    yield "a deflated record of zeros", torch_zip(b"\x80\x02}.", Member("archive/x.pkl", zeros, 8))
    yield "a deflated record without a name", torch_zip(b"\x80\x02}.", Member("archive/x", b"\x80\x02" + zeros, 8))
    names = [Member(f"archive/m{i}", b"") for i in range(20_000)]
    yield "many members", torch_zip(b"\x80\x02}.", *names)
    yield "many members twice", torch_zip(b"\x80\x02}.", *names[:10_000], *names[:10_000])
    yield "many members of one name", torch_zip(b"\x80\x02}.", *[Member("archive/m", b"")] * 20_000)
    yield "many members on one place", torch_zip(b"\x80\x02}.", *[Member("archive/m", b"", offset=0)] * 20_000)
    yield "many pickles", torch_zip(b"\x80\x02}.", *[Member(f"archive/{i}.pkl", b"\x80\x02N.") for i in range(5000)])
    yield (
        "descriptors without end",
        b"PK\3\4" + struct.pack("<5H3L2H", 0, 8, 0, 0, 0, 0, 0, 0, 1, 0) + b"a" + b"PK\7\x08" * 500_000,
    )
    yield (
        "local headers without end",
        (b"PK\3\4" + struct.pack("<5H3L2H", 0, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a") * 30_000,
    )
    yield "end records without end", b"PK\3\4" + b"PK\5\6" * 300_000
    tensors = ",".join(f'"t{i}":{{"dtype":"F32","shape":[],"data_offsets":[0,4]}}' for i in range(20_000))
    yield "tensors on one place", safetensors(b"{" + tensors.encode() + b"}", STORAGE[:4])
    yield "one tensor often", safetensors(b"{" + tensors.replace("t", "u").encode()[:1_000_000] + b"}", STORAGE[:4])
    yield "deep JSON", safetensors(b'{"a":' + b"[" * 1_000_000)
    yield "deep JSON that ends", safetensors(b'{"a":' + b"[" * 400_000 + b"]" * 400_000 + b"}")
    yield "JSON of digits", safetensors(b'{"a":' + b"9" * 1_000_000 + b"}")
    yield "JSON of blanks", safetensors(b" " * 1_000_000 + b"{}")
    yield "metadata of one text", safetensors(b'{"__metadata__":{"a":"' + b"\\u202e" * 300_000 + b'"}}')
    keys = b"\x80\x02](" + b"".join(text(b"%d" % i) for i in range(50_000)) + b"e."
    yield "many storage keys", legacy(keys=keys)
    yield "a storage of 2**62", legacy()[:-24] + struct.pack("<q", 1 << 62)


def bombs(n: int = 200_000) -> Iterator[tuple[str, bytes, Callable[[bytes], str]]]:
    """Every bomb by its name, and what it is given to."""
    for name, data in pickles(n):
        yield f"pickle, {name}", data, check_pickle
        yield f"zip, {name}", wrapped(data), check_file
        if n >= 100_000:  # the same pickle, which the other container leads to the same code
            yield f"legacy, {name}", legacy(data), check_file
    for name, data in files():
        yield f"file, {name}", data, check_file


def measure(data: bytes, check: Callable[[bytes], str]) -> dict[str, float | str]:
    """Seconds, bytes of memory, and how it ended, in a child process."""
    reader, writer = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        signal.alarm(3 * SECONDS)
        os.write(writer, _end(data, check).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    took = time.perf_counter() - started
    return {
        "size": len(data),
        "seconds": round(took, 3),
        "rss": usage.ru_maxrss << 10,
        "end": said or f"died: {status}",
    }


def _end(data: bytes, check: Callable[[bytes], str]) -> str:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + MEMORY + PER_BYTE * len(data)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        return check(data)
    except SDViewerError as error:
        return "out of memory" if "more memory than there is" in error.message else error.code
    except MemoryError:
        return "out of memory"
    except BaseException as error:  # the very thing that is looked for
        return f"failed: {error!r}"


def main() -> None:
    """The process."""
    check_file(wrapped(b"\x80\x02}."))  # so that each child finds everything loaded
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    found = {name: measure(data, check) for name, data, check in bombs(n)}
    json.dump({"base": base, "bombs": found}, sys.stdout)


if __name__ == "__main__":
    main()
