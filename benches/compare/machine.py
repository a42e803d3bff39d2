"""What machine this is, and whether somebody else is using it.

Foreign load is the processor time of processes that are neither kernel threads nor descendants of the benchmark's script:
that of a benchmark's own traffic in the kernel is nobody's, and a machine's own housekeeping is far below the limit.
"""

import os
import platform
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

# Part of one core that others may use.
FOREIGN_LIMIT = 0.05
# Of the machine as a whole, before a benchmark has begun: with what belongs to no process (interrupts, a hypervisor).
BUSY_LIMIT = 0.05

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KERNEL_THREADS = 2


class ForeignLoad(RuntimeError):
    """Others use this machine."""


def describe(root):
    """The machine and the tree that is measured, for the head of a results file."""
    return {
        "cpu": next((line.split(":", 1)[1].strip() for line in read("/proc/cpuinfo").splitlines()
                     if line.startswith("model name")), platform.machine()),
        "cores": os.cpu_count(),
        "memory_mib": int(read("/proc/meminfo").split()[1]) // 1024,
        "hypervisor": "hypervisor" in read("/proc/cpuinfo"),
        "kernel": platform.release(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(root),
    }


def commit(root):
    """The commit, with a mark if the tree differs from it."""
    def git(*arguments):
        done = subprocess.run(["git", "-c", f"safe.directory={root}", "-C", root, *arguments],
                              capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""
    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+changes" if changed else "")


def read(path):
    return Path(path).read_text()


# ---- who uses it

def parse_stat(text):
    """Parent, own ticks, and those of reaped children, of /proc/PID/stat; the name may hold blanks and brackets."""
    fields = text[text.rindex(")") + 2:].split()
    own, children = (int(fields[at]) + int(fields[at + 1]) for at in (11, 13))
    return int(fields[1]), own, children


def processes():
    """What `parse_stat` tells, by pid."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                found[int(entry)] = parse_stat(read(f"/proc/{entry}/stat"))
            except (OSError, ValueError):
                pass  # it has ended
    return found


def bench_pid():
    """The script's process, which has started servers beside this one, if it tells; else this one."""
    return int(os.environ.get("BENCH_PID", os.getpid()))


def foreign(found, own):
    """Ticks, own and of children, by pid, of those that are neither kernel threads nor `own` nor below it nor above it.
    Those above wait for the benchmark, and what it has used is added to theirs as soon as it is reaped."""
    above, pid = set(), own
    while pid in found and pid not in above:
        above.add(pid)
        pid = found[pid][0]

    def is_own(pid):
        seen = set()
        while pid in found and pid not in seen:
            if pid in (own, KERNEL_THREADS):
                return True
            seen.add(pid)
            pid = found[pid][0]
        return False
    return {pid: ticks for pid, (_, *ticks) in found.items() if pid not in above and not is_own(pid)}


def below(found, top):
    """The pids of a process and all below it, those farthest down first."""
    children = [pid for pid, (parent, *_) in found.items() if parent == top]
    return [pid for child in children for pid in below(found, child)] + [top]


def used_cores(before, after, seconds):
    """Cores that the processes of two samples used in between, and the pid that used most.

    What a process has used goes to its parent when that reaps it, so all of it together, children's time included, is
    what is used; unless somebody does not reap, and then it is at least what those that stayed have used themselves.
    """
    stayed = {pid: own - before[pid][0] for pid, (own, _) in after.items() if pid in before}
    new = {pid: own for pid, (own, _) in after.items() if pid not in before}
    with_children = sum(map(sum, after.values())) - sum(map(sum, before.values()))
    grown = {**stayed, **new}
    return max(with_children, sum(grown.values()), 0) / TICKS_PER_S / seconds, max(grown, key=grown.get, default=None)


def busy_part(before, after):
    """Part of the machine that was neither idle nor waiting between two first lines of /proc/stat."""
    delta = [int(b) - int(a) for a, b in zip(before.split()[1:9], after.split()[1:9])]
    return 1 - (delta[3] + delta[4]) / max(1, sum(delta))


@dataclass
class Sample:
    """One look at a machine that should be idle."""

    cores: float
    busy: float
    who: str


def look(seconds=1.0):
    """Who uses this machine now, other than the bench."""
    own = bench_pid()
    before, stat, start = foreign(processes(), own), first_line(), time.monotonic()
    time.sleep(seconds)
    cores, most = used_cores(before, foreign(processes(), own), time.monotonic() - start)
    return Sample(cores, busy_part(stat, first_line()), name_of(most))


def first_line():
    return read("/proc/stat").split("\n", 1)[0]


def name_of(pid):
    try:
        return f"{read(f'/proc/{pid}/comm').strip()} (pid {pid})"
    except OSError:
        return "a process that has ended"


def refuse_foreign_load(allowed, seconds=2.0):
    """Looks, and raises if others use the machine, unless that is `allowed`. What was seen, for the results."""
    sample = look(seconds)
    if sample.cores > FOREIGN_LIMIT or sample.busy > BUSY_LIMIT:
        said = (f"this machine is {100 * sample.busy:.0f} % busy, {sample.cores:.2f} cores of it by foreign processes, "
                f"most of it by {sample.who}; limits are {100 * BUSY_LIMIT:.0f} % and {FOREIGN_LIMIT} cores")
        if not allowed:
            raise ForeignLoad(said + ": wait until it is idle, or pass --allow-load and do not trust the figures")
        print("WARNING: " + said + ". The figures are not to be trusted.", flush=True)
    return {"busy": round(sample.busy, 4), "foreign_cores": round(sample.cores, 4)}


class Watch:
    """Looks all the time while something of ours runs, and remembers the worst stretch."""

    STRETCH_S = 5.0

    def __init__(self):
        self.worst, self.who, self._stop = 0.0, "", threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        own = bench_pid()
        before, start = foreign(processes(), own), time.monotonic()
        while not self._stop.wait(self.STRETCH_S):
            after, now = foreign(processes(), own), time.monotonic()
            cores, most = used_cores(before, after, now - start)
            if cores > self.worst:
                self.worst, self.who = cores, name_of(most)
            before, start = after, now

    def report(self):
        """For the results; says aloud if it was too much."""
        if self.worst > FOREIGN_LIMIT:
            print(f"WARNING: foreign processes used up to {self.worst:.2f} cores meanwhile, most of it {self.who}: "
                  "the figures are not to be trusted.", flush=True)
        return {"worst_foreign_cores": round(self.worst, 4), "who": self.who if self.worst > FOREIGN_LIMIT else ""}
