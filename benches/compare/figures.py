"""Medians, spreads and ratios of rounds. Knows nothing of what was measured.

Two things are compared within each round, one after the other, so that what slows the machine for a while slows
both: a ratio is the median of the rounds' own ratios, and its spread is from the least to the greatest of them.
"""

import statistics
from dataclasses import dataclass

# From fewer rounds than this no ratio is told.
MIN_ROUNDS = 3


class TooFewRounds(ValueError):
    """There are not enough rounds for what was asked."""

    def __init__(self, rounds):
        super().__init__(f"{rounds} rounds are too few: at least {MIN_ROUNDS} are needed for a ratio with a spread")
        self.rounds = rounds


@dataclass(frozen=True)
class Spread:
    """The middle of some rounds, and how far they lie apart."""

    median: float
    low: float
    high: float
    rounds: int


def check_rounds(rounds):
    """Refuses a number of rounds from which nothing could be told."""
    if rounds < MIN_ROUNDS:
        raise TooFewRounds(rounds)


def spread(values):
    """The spread of one figure over rounds."""
    values = list(values)
    check_rounds(len(values))
    return Spread(statistics.median(values), min(values), max(values), len(values))


def ratio(ours, theirs):
    """Ours over theirs, two mappings from round to figure. Rounds that only one of them has do not count, nor do
    those in which theirs is not above zero."""
    return spread(ours[n] / theirs[n] for n in sorted(ours.keys() & theirs.keys()) if theirs[n] > 0)


def added_ratio(ours, theirs, base):
    """What ours adds to the base over what theirs adds to it, by round. Rounds in which theirs adds nothing that
    could be divided by do not count."""
    rounds = sorted(ours.keys() & theirs.keys() & base.keys())
    return spread((ours[n] - base[n]) / (theirs[n] - base[n]) for n in rounds if theirs[n] > base[n])


def added(ours, base):
    """What ours adds to the base, by round."""
    return spread(ours[n] - base[n] for n in sorted(ours.keys() & base.keys()))


def spread_of(ours):
    """The spread of a figure that needs no other, by round."""
    return spread(ours.values())
