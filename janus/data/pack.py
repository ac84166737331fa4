"""Packing: whole documents, laid into sequences of fixed length with almost no waste.

Each pack takes the oldest waiting document plus the subset of the next few that fills it best, found exactly by
subset sum over a bit set (one Python integer of `capacity` bits, so a shift-and-or per candidate). That keeps the
order of the stream, up to a short look-ahead, and no document waits long: the oldest one always goes.
"""

from __future__ import annotations

from collections.abc import Sequence

LOOK_AHEAD_DOCUMENTS = 64
"""Documents considered for a pack, at least. 2**63 subsets: nearly always one of them fills it to the last token."""
LOOK_AHEAD_PACKS = 2
"""... and at least so many packs' worth of tokens, for short documents."""


def pack_stream(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack documents of the given `lengths` (tokens, each in [1, capacity]) into packs of at most `capacity` tokens.

    Returns one list of indices into `lengths` per pack, ascending; every index occurs exactly once.
    """
    packs: list[list[int]] = []
    waiting: list[int] = []
    sizes: list[int] = []  # of the waiting documents
    tokens = 0
    pulled = 0
    while waiting or pulled < len(lengths):
        while pulled < len(lengths) and (len(waiting) < LOOK_AHEAD_DOCUMENTS or tokens < LOOK_AHEAD_PACKS * capacity):
            waiting.append(pulled)
            sizes.append(lengths[pulled])
            tokens += lengths[pulled]
            pulled += 1
        places = fullest(sizes, capacity)
        packs.append([waiting[place] for place in places])
        for place in reversed(places):
            tokens -= sizes[place]
            del waiting[place], sizes[place]
    return packs


def fullest(lengths: Sequence[int], capacity: int) -> list[int]:
    """The subset holding item 0 with the greatest sum within `capacity`; of equal ones, that of the earliest items.

    Returns ascending indices.
    """
    inside = (1 << (capacity + 1)) - 1
    # reachable[i] has bit s set when some subset of items 0..i that holds item 0 sums to s.
    reachable = [1 << lengths[0]]
    for length in lengths[1:]:
        if reachable[-1] >> capacity:
            break
        reachable.append(reachable[-1] | (reachable[-1] << length & inside))
    total = reachable[-1].bit_length() - 1
    chosen = []
    for item in range(len(reachable) - 1, 0, -1):
        if not reachable[item - 1] >> total & 1:
            chosen.append(item)
            total -= lengths[item]
    return [0, *reversed(chosen)]
