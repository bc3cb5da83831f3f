"""The command line: one file a command, one line a command in `main.COMMANDS`; `docs/cli.md` is the contract.

A command module has `NAME`, `HELP`, `add_arguments(parser)` and `run(arguments) -> exit code`. Nothing is imported here
that the command does not need: `--version` starts neither NumPy nor Qt.
"""
