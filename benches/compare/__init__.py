"""What scripts/bench-ipvs.sh and scripts/bench-peers.sh measure with, and the arithmetic of their tables.

One idea a file. `figures` is arithmetic, `machine` tells what ran and what disturbed it, `results` is the file of raw
figures, `table` prints; `proc` reads counters. `ipvs*`, `pktgen` and `guest_lab` are of the first script, `peers*` of
the second. Only the standard library is used.
"""
