"""Counters of the kernel: interfaces, threads, processors."""

import os
from pathlib import Path


def interface(net_dev, name):
    """Received, sent and dropped packets of an interface, from the text of /proc/net/dev."""
    for line in net_dev.splitlines():
        device, colon, counters = line.partition(":")
        if colon and device.strip() == name:
            fields = [int(field) for field in counters.split()]
            return {"rx": fields[1], "rx_dropped": fields[3], "tx": fields[9], "tx_dropped": fields[11]}
    raise ValueError(f"no interface {name} in /proc/net/dev")


def threads(pid):
    """Thread ids of a process."""
    try:
        return [int(tid) for tid in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def kernel_threads(prefix):
    """Pids of the kernel threads whose names begin so."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if Path(f"/proc/{entry}/comm").read_text().startswith(prefix):
                    found.append(int(entry))
            except OSError:
                pass  # it has ended
    return found


def run_ns(tids):
    """Nanoseconds that these threads have run."""
    return sum(int(Path(f"/proc/{tid}/schedstat").read_text().split()[0]) for tid in tids)


def cpu_ticks():
    """Busy and all ticks of each processor since the start, `cpu` for all of them together."""
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu"):
            ticks = [int(field) for field in fields[:8]]
            found[name] = (sum(ticks) - ticks[3] - ticks[4], sum(ticks))
    return found
