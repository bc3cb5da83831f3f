"""Bytes <-> inert node graph, and what a pickle would ask for if somebody ran it.

Law: nothing named in a pickle is ever imported, called, hashed or compared. Strings, numbers and None are decoded;
everything else stays a node. All work is iterative: nesting 100,000 deep is real.
"""
