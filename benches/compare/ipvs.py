"""The host's side of scripts/bench-ipvs.sh: what is measured, two guests that measure it, the table.

The first guest tells speed: its processors run side by side, so packets per second are what they are on any emulated
machine. The second counts instructions: its one processor's clock ticks once an instruction, so that the nanoseconds
that a director's threads have run are the instructions they took, however busy this machine is.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import figures, guest_lab, machine, results, table

ROOT = str(Path(__file__).resolve().parents[2])
# As many rows as xvs has room for connections, more than a run has.
IPVS_TAB_BITS = 20
QUICK = {"flows": [1000], "sizes": [64], "seconds": 2.0, "count": 100_000}
FULL = {"flows": [1, 1000, 100_000], "sizes": [64, 1400], "seconds": 4.0, "count": 100_000}
# What is measured, and the directors: the bare ones only hand frames over, in the driver and from ring to ring.
KINDS = ["established", "frames", "new-udp", "new-syn"]
DIRECTORS = ["ipvs", "bare-xdp", "bare-xsk", "xvs-off", "xvs-on"]
# What a flow count costs where instructions are counted: each must be opened first, at some 10,000 a minute.
MOST_FLOWS_COUNTED = 1000
GUEST_MEMORY_MB = 4096
# How often a guest is started that dies.
ATTEMPTS = 3
# Upper bounds, seconds of this machine: to start a guest, to make and remove a director, to take one measurement.
BOOT_S, DIRECTOR_S, MEASURE_S = 60, 40, 20


def options():
    parser = argparse.ArgumentParser(prog="scripts/bench-ipvs.sh", description=__doc__.split("\n\n")[0])
    parser.add_argument("--full", action="store_true",
                        help="all of 1, 1 k and 100 k flows and 64 and 1,400 bytes, instead of 1 k flows of 64 bytes")
    parser.add_argument("--rounds", type=int, default=3, help="at least 3, which is the default")
    parser.add_argument("--modes", type=lambda text: text.split(","), help="of nat, dr, tun; default: all")
    parser.add_argument("--kinds", type=lambda text: text.split(","), help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--directors", type=lambda text: text.split(","), help=f"of {', '.join(DIRECTORS)}; default: all")
    parser.add_argument("--flows", type=lambda text: [int(n) for n in text.split(",")], help="powers of ten")
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")],
                        help="bytes of a frame with FCS, 64 to 1518")
    parser.add_argument("--seconds", type=float, help="of each measurement of speed")
    parser.add_argument("--guests", default="speed,instructions", help="default: both")
    parser.add_argument("--cpus", type=int, default=3 if (os.cpu_count() or 1) >= 4 else 2,
                        help="of the first guest: 2, or 3 so that the server has its own")
    parser.add_argument("--xvs", default=f"{ROOT}/target/release/xvs", help="the binary; default: the tree's own")
    parser.add_argument("--allow-load", action="store_true", help="measure although others use this machine")
    parser.add_argument("--report", metavar="FILE", help="print the table of an earlier run, and run nothing")
    return parser.parse_args()


def flavours(binary):
    """The directors to compare. A binary that knows no `offload` is measured as it is."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(guest_lab.config("nat", "off", 0))
        file.flush()
        known = subprocess.run([binary, "check", "--config", file.name], capture_output=True).returncode == 0
        if known:
            return DIRECTORS
        print("this xvs knows no `offload`: it is measured as it is", flush=True)
        return [*DIRECTORS[:3], "xvs"]


def choose(what, wanted, there):
    """Those of what is there that are wanted, all unless told."""
    unknown = set(wanted or []) - set(there)
    if unknown:
        raise ValueError(f"no such {what}: {', '.join(sorted(unknown))}; they are {', '.join(there)}")
    return [one for one in there if not wanted or one in wanted]


def plans(chosen, directors):
    """What each guest is told to do: a round of a mode, since one may die after many directors (see README.md)."""
    base = dict(FULL if chosen.full else QUICK)
    base.update({key: value for key in ("modes", "flows", "sizes", "seconds") if (value := getattr(chosen, key))})
    examples = f"{ROOT}/target/release/examples"
    base.update(directors=directors, kinds=choose("kind", chosen.kinds, KINDS),
                ipvs_tab_bits=IPVS_TAB_BITS, xvs=os.path.abspath(chosen.xvs), flood=f"{examples}/flood",
                bare=f"{examples}/bare_forwarder", sink=f"{ROOT}/target/release/sink.o")
    speed = {**base, "guest": "speed", "count": 0, "cpus": chosen.cpus}
    few = [flows for flows in base["flows"] if flows <= MOST_FLOWS_COUNTED] or [MOST_FLOWS_COUNTED]
    counted = {**base, "guest": "instructions", "flows": few, "cpus": 1}
    return [{**plan, "modes": [mode], "round": number} for plan in (speed, counted)
            if plan["guest"] in chosen.guests.split(",")
            for mode in plan["modes"] for number in range(1, chosen.rounds + 1)]


def bound_s(plan):
    """Seconds within which a guest is done, or is ended."""
    directors = len(plan["modes"]) * len(plan["directors"])
    measurements = directors * len(plan["kinds"]) * len(plan["flows"]) * len(plan["sizes"])
    warm_ups = directors * sum(plan["flows"]) / 500
    slow = 3 if plan["guest"] == "instructions" else 1
    return int(BOOT_S + slow * (directors * DIRECTOR_S + measurements * (MEASURE_S + plan["seconds"]) + warm_ups))


def run_guest(plan, file):
    """Runs one guest to its end, another one in its place if it dies; the measurements of one that did not go to the
    results."""
    for _ in range(ATTEMPTS):
        status, lines = try_guest(plan)
        if status == 0:
            for line in lines:
                file.write(json.loads(line))
            break
        print("what it has measured does not count", flush=True)
    return status


def try_guest(plan):
    with tempfile.TemporaryDirectory(prefix="xvs-bench-ipvs-") as out:
        Path(out, "plan.json").write_text(json.dumps(plan))
        instructions = ["-i"] if plan["guest"] == "instructions" else ["-c", str(plan["cpus"])]
        limit = bound_s(plan)
        print(f"\nguest `{plan['guest']}`, {' '.join(plan['modes'])}, round {plan['round']}: {plan['cpus']} processors, ends "
              f"within {limit // 60 + 1} minutes", flush=True)
        command = [f"{ROOT}/scripts/guest.sh", "-m", str(GUEST_MEMORY_MB), "-t", str(limit), *instructions, "-o", out,
                   "env", "PYTHONDONTWRITEBYTECODE=1", f"PYTHONPATH={ROOT}/benches",
                   "python3", "-m", "compare.ipvs_guest", "/out/plan.json", "/out/measurements"]
        guest = subprocess.Popen(command, cwd=ROOT)
        try:
            status = guest.wait()
        finally:
            end_tree(guest)
        measured = Path(out, "measurements")
        return status, measured.read_text().splitlines() if measured.exists() else []


def end_tree(process):
    """Ends a process that still runs and all below it: QEMU is in a process group of its own, which Ctrl-C does not
    reach."""
    if process.poll() is None:
        for pid in machine.below(machine.processes(), process.pid):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        process.wait()


def end_by_exception(number, _):
    sys.exit(128 + number)


# ---- the table

def per_cpu_s(one):
    return 1e9 / one["director_ns_per_packet"] if one["director_ns"] > 0 and one["received"] > 0 else None


def report(head, measurements):
    """Rows of figures and ratios, xvs over IPVS."""
    speed = [one for one in measurements if one["guest"] == "speed"]
    counted = [one for one in measurements if one["guest"] == "instructions"]
    directors = sorted({one["director"] for one in measurements} - {"ipvs"})
    rows = []
    kinds = sorted({(one["mode"], one["what"], one["flows"] or 0, one["size"]) for one in measurements},
                   key=lambda kind: (list(guest_lab.MODES).index(kind[0]), KINDS.index(kind[1]), *kind[2:]))
    for mode, what, flows, size in kinds:
        which = {"mode": mode, "what": what, "flows": flows or None, "size": size}
        def of(measured, director, figure):
            return results.by_round(measured, figure, director=director, **which)
        for director in (d for d in directors if any(results.by_round(measurements, lambda one: 1, director=d, **which))):
            pps = [of(speed, d, lambda one: one["received_per_s"]) for d in (director, "ipvs")]
            cpu = [of(speed, d, per_cpu_s) for d in (director, "ipvs")]
            cost = [of(counted, d, lambda one: one["director_ns_per_packet"] or None) for d in (director, "ipvs")]
            loss = [of(speed, d, lambda one: one["loss"]) for d in (director, "ipvs")]
            idle = of(speed, director, lambda one: one["director_part_of_cpu"])
            rows.append([
                f"{mode} {what} {f'{flows:,} flows ' if flows else ''}{size} B", director,
                table.middle(pps[1]), table.middle(pps[0]),
                table.or_why(figures.ratio, *pps), table.or_why(figures.ratio, *cpu),
                table.middle(cost[1]), table.middle(cost[0]), table.or_why(figures.ratio, *cost),
                table.middle(loss[1], "{:.0%}"), table.middle(loss[0], "{:.0%}"), table.middle(idle, "{:.0%}"),
            ])
    header = ["what", "director", "IPVS /s", "its /s", "/s: over IPVS", "/s of CPU: over IPVS",
              "IPVS instr", "its instr", "instr: over IPVS", "IPVS lost", "its lost", "its CPU"]
    print(f"\n{head['cpu']}, {head['cores']} cores, kernel {head['kernel']} below and Debian's in the guest, emulated; "
          f"commit {head['commit']}")
    print(table.table(header, rows))
    print("""
/s: packets or new connections that reached the server, per second, while more were offered. Ratios are medians of
the rounds' ratios, with the least and the greatest of them. `/s of CPU`: by a second of the director's own threads,
on a processor of their own. Where `its CPU` is well below 100 % it waited for the generator, and /s says too little
of it. instr: instructions of the director's threads per packet, the same way in both: less is better. established: in
socket buffers from pktgen, which a veth copies for XDP; frames: in a driver's pages, as a NIC has them. bare: XDP that
only redirects, an AF_XDP forwarder that only moves frames.""")


def main():
    chosen = options()
    if chosen.report:
        report(*results.load(chosen.report))
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_by_exception)
    figures.check_rounds(chosen.rounds)
    chosen.modes = choose("mode", chosen.modes, list(guest_lab.MODES))
    choose("kind", chosen.kinds, KINDS)
    before = machine.refuse_foreign_load(chosen.allow_load)
    there = flavours(chosen.xvs)
    directors = choose("director", chosen.directors and ["ipvs", *chosen.directors], there)
    todo = plans(chosen, directors)
    print(f"done within {sum(map(bound_s, todo)) // 60 + 1} minutes at most, as a rule in a quarter of that", flush=True)
    head = {**machine.describe(ROOT), "bench": "ipvs", "emulated": True, "before": before,
            "plans": [{key: value for key, value in plan.items() if key not in ("xvs", "flood", "bare", "sink")} for plan in todo]}
    file = results.Results(results.new_path(ROOT, "ipvs", head["commit"]), head)
    start, statuses = time.monotonic(), []
    with machine.Watch() as watch:
        for plan in todo:
            statuses.append(run_guest(plan, file))
    file.close(statuses=statuses, watch=watch.report())
    report(*results.load(file.path))
    print(f"\nraw figures: {os.path.relpath(file.path, ROOT)}; took {(time.monotonic() - start) / 60:.1f} minutes")
    return 1 if any(statuses) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (figures.TooFewRounds, machine.ForeignLoad, ValueError) as error:
        sys.exit(f"bench-ipvs.sh: {error}")
