"""What each kind of evidence counts, in one place.

Measured on ten real pairs of codebases and on 138 pairs made from the models of transformers (see docs/benchmarks.md);
as many others were held out.
"""

NAME = 1.0
"""Times the similarity of the names, 0 to 1."""

PREFIX = 0.9
"""Times how surely one prefix was translated into the other by what is paired already."""

SUFFIX = 0.6
"""The same for the name inside the repeated block."""

SAME_INDICES = 0.3
SAME_COUNT = 0.5

ORDER = 0.3
"""Times how near the places are among those of equal shape, where both sides stand in the order of registration."""

ORDER_BY_NUMBER = 0.05
"""The same where one side is sorted."""

ORDINAL = 0.35
"""Added where words say the same place in the block, taken off where they say another."""

SAME_LEAVES = 0.15
"""Added where the modules hold the same: weight and bias, or the four of a batch norm."""

SAME_TEMPLATE = 0.6

EXCLUDED = -0.7
"""One says q, the other k."""

CONTEXT = 0.4
"""Equal surroundings, where they are not required."""

SURE = 0.18
"""How much better than the next possibility a pair has to be to be called likely."""

FOREIGN = 0.35
"""What names and learned prefixes have to say, at least, for a pair to be likely where one side holds more than the
other: what is the only one of its shape on either side may be two tensors then, each of which the other side lacks."""

LEAST = 0.75
"""What a pair has to score where nothing but its shape speaks for it."""

LEAST_NAMES_ONLY = 1.0
"""What a pair has to score where shapes are not known."""

HAND = 3.0
"""What a pair by hand counts for others of its two templates."""

BROKEN = -9.0
"""What it counts that a person refused one of the pairs: more than all else."""
