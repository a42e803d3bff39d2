"""Looks for the greatest rate at which next to nothing is lost. Knows nothing of TRex."""


def no_drop_rate(probe, *, resolution=0.5, allowed=0.0, confirm=3):
    """The greatest rate, in percent of the line, at which `probe(rate)`, the part that was lost, is at most `allowed`.

    Halves the range until it is at most `resolution` percent wide, then asks `confirm` times in all at what was found
    and goes down by a step for each that fails, since one lucky run is no rate. Returns the rate, 0 if none was found,
    and every probe as (rate, loss).
    """
    if not resolution > 0 or confirm < 1 or not 0 <= allowed < 1:
        raise ValueError("resolution must be above 0, confirm at least 1, allowed from 0 to below 1")
    probes = []

    def passes(rate):
        probes.append((rate, probe(rate)))
        return probes[-1][1] <= allowed
    low, high = 0.0, 100.0
    if passes(high):
        low = high
    while high - low > resolution:
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    while low > 0:
        if all(passes(low) for _ in range(confirm - 1)):
            return low, probes
        low = max(0.0, low - resolution)
    return 0.0, probes
