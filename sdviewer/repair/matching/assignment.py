"""The best one-to-one assignment of two small sets, and how much better than any other each of its pairs is."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 60
"""Members of either side for which the best assignment is computed; above it the best pairs are taken one by one."""


def assign(scores: Sequence[Sequence[float]]) -> list[tuple[int, int, float]]:
    """Rows and columns that go together so that the sum is largest, each with its margin.

    The margin is what would be lost by the best exchange with one other pair, or by taking a column or row left over.
    """
    n, m = len(scores), len(scores[0]) if scores else 0
    pairs = _best(scores, n, m) if max(n, m) <= MOST else _greedy(scores, n, m)
    used_rows, used_columns = {i for i, _ in pairs}, {j for _, j in pairs}
    free_rows = [i for i in range(n) if i not in used_rows]
    free_columns = [j for j in range(m) if j not in used_columns]
    found = []
    for i, j in pairs:
        own = scores[i][j]
        margin = own
        for k, h in pairs:
            if k != i:
                margin = min(margin, own + scores[k][h] - scores[i][h] - scores[k][j])
        for h in free_columns:
            margin = min(margin, own - scores[i][h])
        for k in free_rows:
            margin = min(margin, own - scores[k][j])
        found.append((i, j, margin))
    return found


def _greedy(scores: Sequence[Sequence[float]], n: int, m: int) -> list[tuple[int, int]]:
    order = sorted([(scores[i][j], -i, -j) for i in range(n) for j in range(m)], reverse=True)
    rows: set[int] = set()
    columns: set[int] = set()
    pairs = []
    for _, i, j in order:
        if -i not in rows and -j not in columns:
            rows.add(-i)
            columns.add(-j)
            pairs.append((-i, -j))
    return pairs


def _best(scores: Sequence[Sequence[float]], n: int, m: int) -> list[tuple[int, int]]:
    """Kuhn's method with potentials, in O(n^2 m)."""
    if n > m:
        turned = [[scores[i][j] for i in range(n)] for j in range(m)]
        return [(i, j) for j, i in _best(turned, m, n)]
    infinity = float("inf")
    row_price, column_price = [0.0] * (n + 1), [0.0] * (m + 1)
    row_of, way = [0] * (m + 1), [0] * (m + 1)
    for i in range(1, n + 1):
        row_of[0] = i
        column = 0
        least = [infinity] * (m + 1)
        used = [False] * (m + 1)
        while True:
            used[column] = True
            row, delta, next_column = row_of[column], infinity, 0
            for j in range(1, m + 1):
                if not used[j]:
                    cost = -scores[row - 1][j - 1] - row_price[row] - column_price[j]
                    if cost < least[j]:
                        least[j], way[j] = cost, column
                    if least[j] < delta:
                        delta, next_column = least[j], j
            for j in range(m + 1):
                if used[j]:
                    row_price[row_of[j]] += delta
                    column_price[j] -= delta
                else:
                    least[j] -= delta
            column = next_column
            if row_of[column] == 0:
                break
        while column:
            row_of[column] = row_of[way[column]]
            column = way[column]
    return [(row_of[j] - 1, j - 1) for j in range(1, m + 1) if row_of[j]]
