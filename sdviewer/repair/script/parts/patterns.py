"""The recipe's patterns and templates, matched as `repair.patterns` matches them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from sdviewer.repair.script.parts.failures import RecipeError, quoted


class Pattern:
    """Which keys are meant: `*` and `{name}` are one component, `**` is any, `{name...}` one or more, all else itself.

    Inside a component `*` is any text and `{name}` its digits. `re:` is searched, `re.full:` matches the whole key.
    """

    def __init__(self, text: str, integers: Iterable[str] = ()) -> None:
        self.names: dict[str, int] = {}
        self.stars: list[int] = []
        self.anys: list[int] = []
        self.above: set[int] = set()
        self.integers = set(integers)
        if text.startswith("re:"):
            self.match = re.compile(text[len("re:") :]).search
        elif text.startswith("re.full:"):
            self.match = re.compile(text[len("re.full:") :]).fullmatch
        else:
            pieces = re.split(r"(\*\*|\*|\{\w+(?:\.\.\.)?\})", text)
            self.match = re.compile(self._regex(pieces), re.DOTALL).fullmatch

    def _regex(self, pieces: Sequence[str]) -> str:
        regex = ""
        for i, piece in enumerate(pieces):
            before, after = "".join(pieces[:i]), "".join(pieces[i + 1 :])
            whole = (not before or before.endswith(".")) and (not after or after.startswith("."))
            name = piece.strip("{}").replace("...", "")
            group = len(self.names) + len(self.stars) + len(self.anys) + 1
            if i % 2 == 0:
                # The dot behind a `**` that stands above others belongs to it, so that it can be nothing at all.
                regex += re.escape(piece[1:] if group - 1 in self.above and i and pieces[i - 1] == "**" else piece)
            elif piece == "*":
                self.stars.append(group)
                regex += "([^.]+)" if whole else "([^.]*?)"
            elif piece == "**":
                self.anys.append(group)
                if whole and after:
                    self.above.add(group)
                regex += r"((?:.*?\.)??)" if whole and after else "(.+)" if whole and before else "(.*?)"
            elif name in self.names:
                regex += rf"(?:\{self.names[name]})"
            else:
                self.names[name] = group
                one = "([0-9]{1,18})" if name in self.integers else "([^.]+)" if whole else "([0-9]+)"
                regex += ("(.+?)" if after else "(.+)") if "..." in piece else one
        return regex


def matching(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a key is meant by one of the patterns."""
    matches = [Pattern(text).match for text in patterns]
    return lambda key: any(match(key) for match in matches)


class Rule:
    """A pattern, and what a key that matches it becomes: what the wildcards took, and arithmetic as in `{n-1-i}`.

    `n` is one more than the largest number that the other name takes, unless the pattern has an `n`.
    """

    def __init__(self, pattern: str, result: str) -> None:
        self.result = result
        self.is_regex = pattern.startswith(("re:", "re.full:"))
        self.pieces = [] if self.is_regex else [piece for piece in re.split(r"(\{[^}]*\}|\*\*|\*)", result) if piece]
        sums = [
            piece for piece in self.pieces if piece[0] == "{" and not re.fullmatch(r"\{[A-Za-z_]\w*(\.\.\.)?\}", piece)
        ]
        self.sums = {piece: list(dict.fromkeys(re.findall(r"[A-Za-z_]\w*", piece))) for piece in sums}
        self.pattern = Pattern(pattern, [name for names in self.sums.values() for name in names])

    def renamer(self, keys: Iterable[str]) -> Callable[[str], str | None]:
        """A function from a key to its new one, None where the rule does not match; `keys` are all of the step."""
        counts = self._counts(keys)

        def rename(key: str) -> str | None:
            match = self.pattern.match(key)
            if match is None:
                return None
            if self.is_regex:
                return key[: match.start()] + match.expand(self.result) + key[match.end() :]
            return self._filled(match, counts)

        return rename

    def _counts(self, keys: Iterable[str]) -> dict[str, int]:
        counts: dict[str, int] = {}
        counted = {name for names in self.sums.values() if self._counts_n(names) for name in names} - {"n"}
        for match in filter(None, map(self.pattern.match, keys)) if counted else ():
            for name in counted:
                counts[name] = max(counts.get(name, 0), int(match[self.pattern.names[name]]) + 1)
        return counts

    def _counts_n(self, names: Sequence[str]) -> bool:
        return "n" in names and "n" not in self.pattern.names

    def _filled(self, match: re.Match[str], counts: dict[str, int]) -> str:
        stars, anys = iter(self.pattern.stars), iter(self.pattern.anys)
        new, skip_dot = "", False
        for i, piece in enumerate(self.pieces):
            rest = self.pieces[i + 1 :]
            if piece == "*":
                new += match[next(stars)]
            elif piece == "**":
                group = next(anys)
                taken = match[group]
                if group in self.pattern.above:
                    # It took its dot along: here that dot is the one that stands beside it in the result.
                    if rest and rest[0].startswith("."):
                        skip_dot = True
                        new += taken
                        continue
                    taken = taken[:-1]
                    if not rest and not taken and i and self.pieces[i - 1].endswith("."):
                        new = new[:-1]
                new += taken
            elif piece in self.sums:
                new += self._sum(piece, match, counts)
            elif piece.startswith("{"):
                new += match[self.pattern.names[piece.strip("{}").replace("...", "")]]
            else:
                new += piece[1:] if skip_dot else piece
            skip_dot = False
        return new

    def _sum(self, piece: str, match: re.Match[str], counts: dict[str, int]) -> str:
        names = [name for name in self.sums[piece] if name in self.pattern.names]
        numbers = {name: int(match[self.pattern.names[name]]) for name in names}
        if self._counts_n(self.sums[piece]):
            numbers["n"] = counts[names[0]]
        try:
            number = eval(piece[1:-1].strip(), {"__builtins__": {}}, numbers)
        except ZeroDivisionError:
            raise RecipeError(f"{piece} divides by zero on {quoted(match.string)}") from None
        if not 0 <= number < 10**18:
            raise RecipeError(f"{piece} is {number} on {quoted(match.string)}, which is no index")
        return str(number)
