"""What scripts/bench-peers.sh runs in the network that it has made: rounds of all ways and kinds of load, the table."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from . import figures, machine, peers_ways, results, table

ROOT = str(Path(__file__).resolve().parents[2])
# Name: what a unit is, how many times as long as the others it is measured (for a percentile of few requests), and the
# words for benches/load.rs; none where nothing is asked.
KINDS = {
    "connect": ("new connection", 1, ["connect", "--connections", "64"]),
    "keepalive": ("request", 1, ["keepalive", "--connections", "64"]),
    "paced": ("request", 3, ["paced"]),
    "paced-connect": ("new connection", 3, ["paced-connect"]),
    "bulk": ("MiB", 1, ["bulk", "--connections", "4", "--path", "/bulk"]),
    "idle": ("second", 1, None),
}
PACED = ("paced", "paced-connect")
WARM_UP_S = 0.5
# Starting and ending a way, seconds; what each measurement takes beside its own; the look at the machine.
WAY_S, BESIDE_S, LOOK_S = 2, 0.6, 1


def options(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench-peers.sh", description=(
        "xvs against direct routing, nftables DNAT, HAProxy (tcp) and nginx (stream), in namespaces of this machine."))
    parser.add_argument("--full", action="store_true", help="5 rounds of 5 seconds each, instead of 3 of 1.5")
    parser.add_argument("--rounds", type=int, help="at least 3")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--ways", type=lambda text: text.split(","), help="default: all")
    parser.add_argument("--kinds", type=lambda text: text.split(","), help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--rate", type=int, default=100, help="requests a second of the paced kinds; default: 100")
    parser.add_argument("--xvs", default=f"{ROOT}/target/release/xvs", help="the binary; default: the tree's own")
    parser.add_argument("--allow-load", action="store_true", help="measure although others use this machine")
    parser.add_argument("--report", metavar="FILE", help="print the tables of an earlier run, and run nothing")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    chosen.rounds = chosen.rounds or (5 if chosen.full else figures.MIN_ROUNDS)
    chosen.seconds = chosen.seconds or (5.0 if chosen.full else 1.5)
    figures.check_rounds(chosen.rounds)
    for kind in chosen.kinds or []:
        if kind not in KINDS:
            raise ValueError(f"no such kind of load: {kind}; they are {', '.join(KINDS)}")
    return chosen


def choose(asked, all_ways):
    """The ways to measure: direct routing is what the others are compared with, so it is always one. Those of xvs may
    have a setting, which are not measured if nobody asks."""
    settings = [f"{way}-{setting}" for way in all_ways if way.startswith("xvs") for setting in peers_ways.SETTINGS]
    unknown = set(asked or []) - set(all_ways) - set(settings)
    if unknown:
        raise ValueError(f"no such way: {', '.join(sorted(unknown))}; they are {', '.join(all_ways)}, and those of xvs "
                         f"with a setting, -{' or -'.join(peers_ways.SETTINGS)}")
    return [way for way in all_ways if not asked or way in asked or way == "direct"] + \
        [way for way in settings if way in (asked or [])]


def measure(lab, way, kind, chosen, core):
    """One run of the client; the paced kinds ask the server directly in turn with the way."""
    _, times, words = KINDS[kind]
    seconds = chosen.seconds * times
    if words is None:
        return rest(way, seconds)
    if kind in PACED:
        words = [*words, "--rate", str(chosen.rate), "--beside", f"{peers_ways.DIRECT}:{peers_ways.PORT}"]
    command = ["ip", "netns", "exec", f"{lab}-client", "taskset", "-c", str(core), f"{ROOT}/target/release/examples/load",
               *words, f"{way.address}:{peers_ways.PORT}", "--seconds", str(seconds), "--warm-up", str(WARM_UP_S)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode != 0:
        raise RuntimeError(f"{way.name}, {kind}: {done.stderr.strip()}")
    said = json.loads(done.stdout)
    if said["requests"] == 0:
        raise RuntimeError(f"{way.name}, {kind}: no request was answered: {said['first_error']}")
    return said


def rest(way, seconds):
    """What the way's processes do while nothing is asked, as if each second were a request."""
    time.sleep(WARM_UP_S)
    before, start = way.run_ns(), time.monotonic()
    time.sleep(seconds)
    return {"requests": time.monotonic() - start, "bytes": 0, "errors": 0, "first_error": None, "seconds": seconds,
            "busy_s": (way.run_ns() - before) / 1e9, "p50_us": None, "p99_us": None, "beside": None}


def run(chosen):
    lab, directory = os.environ["LAB_ID"], os.environ["LAB_DIR"]
    os.environ["XVS"] = os.path.abspath(chosen.xvs)
    cores = os.cpu_count() or 1
    client_core, director_cores = 0, [2, 3] if cores >= 4 else [0, 1]
    ways = choose(chosen.ways, peers_ways.names(chosen.xvs))
    kinds = chosen.kinds or list(KINDS)
    a_way_s = WAY_S + sum(KINDS[kind][1] * chosen.seconds + WARM_UP_S + BESIDE_S for kind in kinds)
    bound = chosen.rounds * (LOOK_S + len(ways) * a_way_s)
    print(f"{chosen.rounds} rounds of {len(ways)} ways: about {bound / 60:.0f} minutes", flush=True)
    before = machine.refuse_foreign_load(chosen.allow_load)
    head = {**machine.describe(ROOT), "bench": "peers", "emulated": False, "before": before, "ways": ways,
            "kinds": kinds, "rounds": chosen.rounds, "seconds": chosen.seconds, "client_core": client_core,
            "director_cores": director_cores, "versions": versions()}
    file = results.Results(results.new_path(ROOT, "peers", head["commit"]), head)
    director = ["ip", "netns", "exec", f"{lab}-director"]
    with machine.Watch() as watch:
        for number in range(1, chosen.rounds + 1):
            if number > 1:
                machine.refuse_foreign_load(chosen.allow_load, LOOK_S)
            # Turned each round, so that no way is always the first after the pause.
            for name in ways[number % len(ways):] + ways[:number % len(ways)]:
                with peers_ways.Way(name, peers_ways.address(name), director, director_cores, directory) as way:
                    for kind in kinds:
                        one = measure(lab, way, kind, chosen, client_core)
                        one = {"kind": "measurement", "round": number, "way": name, "load": kind, **one}
                        file.write(one)
                        print(f"round {number} {name} {kind}: {in_short(one)}", flush=True)
    seconds = file.close(watch=watch.report())
    report(*results.load(file.path))
    print(f"\nraw figures: {os.path.relpath(file.path, ROOT)}; took {seconds / 60:.1f} minutes")


def versions():
    """The peers' own words."""
    def first_line(*command):
        done = subprocess.run(command, capture_output=True, text=True)
        return ((done.stdout or done.stderr).splitlines() or ["?"])[0].strip()
    return {"haproxy": first_line("haproxy", "-v"), "nginx": first_line("nginx", "-v"), "nft": first_line("nft", "-v")}


# ---- the tables

def units(one):
    return one["bytes"] / (1 << 20) if one["load"] == "bulk" else one["requests"]


def report(head, measurements):
    print(f"\n{head['cpu']}, {head['cores']} cores, kernel {head['kernel']}; commit {head['commit']}; "
          f"{head['rounds']} rounds of {head['seconds']} s")
    for kind in head["kinds"]:
        print(f"\n{kind}: a unit is one {KINDS[kind][0]}")
        print(table.table(*load_table(head["ways"], [one for one in measurements if one["load"] == kind])))
    print("""
All are medians of the rounds; in brackets the least and the greatest. `to direct` is a ratio to direct routing in the same
round, `over direct` a difference in microseconds. `in turn` is one too: to direct requests that took turns with them through
the same director, so that what slows the machine for a while slows both. `CPU us` is processor time of the whole machine
per unit, `added` what is above direct routing's; `of nft's` and `of HAProxy's` say which part of what those add, less is
better; rounds in which those added nothing do not count. `idle`: what the way's own processes use when nothing is asked.""")


def in_short(one):
    """One measurement in a line."""
    if one["p99_us"] is None:
        return f"{cpu_us(one) / 1e4:.2f} % of a core"
    beside = one["beside"]
    return (f"{rate(one):,.0f}/s, p50 {one['p50_us']:,.0f} us, p99 {one['p99_us']:,.0f} us, {one['errors']} errors"
            + (f"; directly, in turn with it, p50 {beside['p50_us']:,.0f} us, p99 {beside['p99_us']:,.0f} us" if beside else ""))


def rate(one):
    return units(one) / one["seconds"]


def cpu_us(one):
    return 1e6 * one["busy_s"] / units(one)


def over(percentile):
    """How far a percentile is above that of direct routing in turn with it."""
    return lambda one: one["beside"] and one[percentile] - one["beside"][percentile]


def load_table(ways, measured):
    """Header and rows of one kind of load: of the columns, those that say something about it."""
    def of(way, figure):
        return results.by_round(measured, figure, way=way)

    def latency(percentile):
        return lambda one: one[percentile]

    def alone(figure, form):
        return lambda way: table.middle(of(way, figure), form)

    def to_direct(tell, figure, form="{:.2f}"):
        return lambda way: table.or_why(tell, of(way, figure), of("direct", figure), form=form) if way != "direct" else ""

    def in_turn(percentile):
        return lambda way: table.or_why(figures.spread_of, of(way, over(percentile)), form="{:.0f}")

    def part_of(peer):
        return lambda way: (table.or_why(figures.added_ratio, of(way, cpu_us), of(peer, cpu_us), of("direct", cpu_us))
                            if way.startswith("xvs") else "")
    load = measured[0]["load"] if measured else None
    columns = {"way": lambda way: way}
    if load == "idle":
        columns["% of a core"] = alone(lambda one: cpu_us(one) / 1e4, "{:.2f}")
    elif load in PACED:
        columns |= {"p50 us": alone(latency("p50_us"), "{:,.0f}"), "p99 us": alone(latency("p99_us"), "{:,.0f}"),
                    "p50 over direct": to_direct(figures.added, latency("p50_us"), "{:.0f}"),
                    "p99 over direct": to_direct(figures.added, latency("p99_us"), "{:.0f}"),
                    "p50 in turn": in_turn("p50_us"), "p99 in turn": in_turn("p99_us")}
    else:
        columns |= {"/s": alone(rate, "{:,.0f}"), "/s: to direct": to_direct(figures.ratio, rate),
                    "p50 us": alone(latency("p50_us"), "{:,.0f}"), "p99 us": alone(latency("p99_us"), "{:,.0f}"),
                    "CPU us": alone(cpu_us, "{:,.1f}"), "added CPU us": to_direct(figures.added, cpu_us, "{:.1f}"),
                    "of nft's": part_of("nft"), "of HAProxy's": part_of("haproxy")}
    columns["errors"] = lambda way: sum(one["errors"] for one in measured if one["way"] == way)
    return list(columns), [[tell(way) for tell in columns.values()] for way in ways]


def main():
    chosen = options(sys.argv[1:])
    if chosen.report:
        report(*results.load(chosen.report))
    elif not chosen.check:
        run(chosen)


if __name__ == "__main__":
    try:
        main()
    except (figures.TooFewRounds, machine.ForeignLoad, ValueError, RuntimeError) as error:
        sys.exit(f"bench-peers.sh: {error}")
