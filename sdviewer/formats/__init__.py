"""The only room that touches disk: one file a format, opening, and saving.

Law: bytes are read with bounded `pread`, never a mapping; every length in a file is checked against the file before it
is believed; the source is never written.
"""
