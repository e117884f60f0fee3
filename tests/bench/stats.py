# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Medians with their spread, ratios of pairs, and tables. Pure."""

from __future__ import annotations

import statistics
import typing as t


class Spread(t.NamedTuple):
    median: float
    low: float
    high: float

    def text(self, digits: int = 1, factor: float = 1.0) -> str:
        median, low, high = (f"{factor * value:.{digits}f}" for value in self)
        return f"{median} ({low}-{high})"


def spread(values: t.Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def ratios(numerators: t.Sequence[float], denominators: t.Sequence[float]) -> Spread:
    """Each pair was measured one after the other: what disturbed both does not reach their ratio."""
    if len(numerators) != len(denominators):
        raise ValueError("pairs need two sides")
    return spread([a / b for a, b in zip(numerators, denominators)])


def differences(values: t.Sequence[float], bases: t.Sequence[float]) -> Spread:
    return spread([a - b for a, b in zip(values, bases)])


def table(head: t.Sequence[str], rows: t.Sequence[t.Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: t.Sequence[str]) -> str:
        first, *rest = (cell.ljust(width) if column == 0 else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(cells, widths)))
        return "  " + "   ".join([first, *rest]).rstrip()

    return "\n".join([line(head), line(["-" * width for width in widths]), *(line(row) for row in rows)])
