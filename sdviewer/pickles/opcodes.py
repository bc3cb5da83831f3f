"""The opcodes of pickle protocols 0 to 5 by their names in CPython's `pickletools`, and those that torch accepts."""

from __future__ import annotations

from typing import Final

MARK: Final = 0x28
STOP: Final = 0x2E
POP: Final = 0x30
POP_MARK: Final = 0x31
DUP: Final = 0x32
FLOAT: Final = 0x46
INT: Final = 0x49
BININT: Final = 0x4A
BININT1: Final = 0x4B
LONG: Final = 0x4C
BININT2: Final = 0x4D
NONE: Final = 0x4E
PERSID: Final = 0x50
BINPERSID: Final = 0x51
REDUCE: Final = 0x52
STRING: Final = 0x53
BINSTRING: Final = 0x54
SHORT_BINSTRING: Final = 0x55
UNICODE: Final = 0x56
BINUNICODE: Final = 0x58
APPEND: Final = 0x61
BUILD: Final = 0x62
GLOBAL: Final = 0x63
DICT: Final = 0x64
EMPTY_DICT: Final = 0x7D
APPENDS: Final = 0x65
GET: Final = 0x67
BINGET: Final = 0x68
INST: Final = 0x69
LONG_BINGET: Final = 0x6A
LIST: Final = 0x6C
EMPTY_LIST: Final = 0x5D
OBJ: Final = 0x6F
PUT: Final = 0x70
BINPUT: Final = 0x71
LONG_BINPUT: Final = 0x72
SETITEM: Final = 0x73
TUPLE: Final = 0x74
EMPTY_TUPLE: Final = 0x29
SETITEMS: Final = 0x75
BINFLOAT: Final = 0x47
# Protocol 2
PROTO: Final = 0x80
NEWOBJ: Final = 0x81
EXT1: Final = 0x82
EXT2: Final = 0x83
EXT4: Final = 0x84
TUPLE1: Final = 0x85
TUPLE2: Final = 0x86
TUPLE3: Final = 0x87
NEWTRUE: Final = 0x88
NEWFALSE: Final = 0x89
LONG1: Final = 0x8A
LONG4: Final = 0x8B
# Protocol 3
BINBYTES: Final = 0x42
SHORT_BINBYTES: Final = 0x43
# Protocol 4
SHORT_BINUNICODE: Final = 0x8C
BINUNICODE8: Final = 0x8D
BINBYTES8: Final = 0x8E
EMPTY_SET: Final = 0x8F
ADDITEMS: Final = 0x90
FROZENSET: Final = 0x91
NEWOBJ_EX: Final = 0x92
STACK_GLOBAL: Final = 0x93
MEMOIZE: Final = 0x94
FRAME: Final = 0x95
# Protocol 5
BYTEARRAY8: Final = 0x96
NEXT_BUFFER: Final = 0x97
READONLY_BUFFER: Final = 0x98

HIGHEST_PROTOCOL: Final = 5

# fmt: off
TORCH_OPCODES: Final = frozenset((
    PROTO, GLOBAL, NEWOBJ, REDUCE, BUILD, APPEND, APPENDS, SETITEM, SETITEMS, MARK, TUPLE, TUPLE1, TUPLE2, TUPLE3, NONE,
    NEWFALSE, NEWTRUE, EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT, EMPTY_SET, BININT, BININT1, BININT2, BINFLOAT, BINUNICODE,
    SHORT_BINSTRING, BINPERSID, BINGET, LONG_BINGET, BINPUT, LONG_BINPUT, LONG1, STOP,
))
# fmt: on
"""What `torch.load(weights_only=True)` of torch 2.13 knows (`torch/_weights_only_unpickler.py`)."""


CUT_OFF: Final = frozenset(
    (
        "it ends before its STOP",
        "it ends in an argument",
        "a string is longer than what is left",
        "a frame is longer than what is left",
        "a line has no end",
    )
)
"""What is wrong with a pickle that was whole before its file was cut."""


class BrokenPickle(Exception):
    """The pickle makes no sense at byte `at`."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(f"the pickle is damaged at byte {at:,}: {what}")
        self.at = at
