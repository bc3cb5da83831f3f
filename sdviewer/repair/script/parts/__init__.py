"""The pieces that exported programs are put together of: plain functions, imported by tests and never by sdviewer.

They are read as text (`repair.script.program`). Each top-level name is one piece and goes into a program that uses it.
They import torch, the standard library and each other, and run on Python 3.9.
"""
