"""The file of raw figures: JSON lines. The first says what ran where, the last how it ended, the others are one
measurement each."""

import json
import os
import time
from pathlib import Path


class Results:
    """A results file that grows by a line for each measurement, so that what was measured outlives a broken run."""

    def __init__(self, path, head):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "w")
        self._start = time.monotonic()
        self.write({"kind": "head", **head})

    def write(self, line):
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self, **tail):
        seconds = round(time.monotonic() - self._start, 1)
        self.write({"kind": "end", "seconds": seconds, **tail})
        self._file.close()
        return seconds


def new_path(root, name, commit):
    """benches/results/NAME-TIME-COMMIT.jsonl"""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return Path(root) / "benches" / "results" / f"{name}-{stamp}-{commit}.jsonl"


def load(path):
    """Head and measurements of a results file."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]
    if not lines or lines[0].get("kind") != "head":
        raise ValueError(f"{path} is no results file: its first line is no head")
    return lines[0], [line for line in lines if line.get("kind") == "measurement"]


def by_round(measurements, figure, **wanted):
    """A mapping from round to figure, of the measurements that have these properties. `figure` takes a measurement
    and may give None, which leaves it out."""
    found = {}
    for one in measurements:
        if all(one.get(key) == value for key, value in wanted.items()):
            value = figure(one)
            if value is not None:
                found[one["round"]] = value
    return found
