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
# words for benches/load.rs.
KINDS = {
    "connect": ("new connection", 1, ["connect", "--connections", "64"]),
    "keepalive": ("request", 1, ["keepalive", "--connections", "64"]),
    "paced": ("request", 3, ["paced", "--rate", "100"]),
    "paced-connect": ("new connection", 3, ["paced-connect", "--rate", "100"]),
    "bulk": ("MiB", 1, ["bulk", "--connections", "4", "--path", "/bulk"]),
}
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
    """The ways to measure: direct routing is what the others are compared with, so it is always one."""
    unknown = set(asked or []) - set(all_ways)
    if unknown:
        raise ValueError(f"no such way: {', '.join(sorted(unknown))}; they are {', '.join(all_ways)}")
    return [way for way in all_ways if not asked or way in asked or way == "direct"]


def measure(lab, way, kind, seconds, core):
    """One run of the client."""
    _, times, words = KINDS[kind]
    seconds *= times
    command = ["ip", "netns", "exec", f"{lab}-client", "taskset", "-c", str(core), f"{ROOT}/target/release/examples/load",
               *words, f"{way.address}:{peers_ways.PORT}", "--seconds", str(seconds), "--warm-up", str(WARM_UP_S)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode != 0:
        raise RuntimeError(f"{way.name}, {kind}: {done.stderr.strip()}")
    said = json.loads(done.stdout)
    if said["requests"] == 0:
        raise RuntimeError(f"{way.name}, {kind}: no request was answered: {said['first_error']}")
    return said


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
                        one = measure(lab, way, kind, chosen.seconds, client_core)
                        one = {"kind": "measurement", "round": number, "way": name, "load": kind, **one}
                        file.write(one)
                        print(f"round {number} {name} {kind}: {units(one) / one['seconds']:,.0f}/s, p50 "
                              f"{one['p50_us']:,.0f} us, p99 {one['p99_us']:,.0f} us, {one['errors']} errors", flush=True)
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
Ratios are medians of the rounds' ratios, with the least and the greatest of them. `CPU us` is processor time of the whole
machine per unit, `added` what is above direct routing's in the same round; `of nft's` and `of HAProxy's` say which part
of what those add, less is better; rounds in which those added nothing do not count. Latency: medians of the rounds' percentiles; `added p99` is above direct routing.""")


def load_table(ways, measured):
    """Header and rows of one kind of load."""
    def of(way, figure):
        return results.by_round(measured, figure, way=way)

    def rate(one):
        return units(one) / one["seconds"]

    def cpu_us(one):
        return 1e6 * one["busy_s"] / units(one)
    base, base_cpu, base_p99 = of("direct", rate), of("direct", cpu_us), of("direct", lambda one: one["p99_us"])
    rows = []
    for way in ways:
        rates, cpu, p99 = of(way, rate), of(way, cpu_us), of(way, lambda one: one["p99_us"])
        beyond = way != "direct"
        rows.append([
            way, table.middle(rates), table.or_why(figures.ratio, rates, base),
            table.middle(of(way, lambda one: one["p50_us"])), table.middle(p99),
            table.or_why(figures.added, p99, base_p99, form="{:.0f}") if beyond else "",
            table.middle(cpu, "{:,.1f}"), table.or_why(figures.added, cpu, base_cpu, form="{:.1f}") if beyond else "",
            *(table.or_why(figures.added_ratio, cpu, of(peer, cpu_us), base_cpu) if way.startswith("xvs") else ""
              for peer in ("nft", "haproxy")),
            str(sum(one["errors"] for one in measured if one["way"] == way)),
        ])
    return ["way", "/s", "/s: over direct", "p50 us", "p99 us", "added p99 us", "CPU us", "added CPU us", "of nft's",
            "of HAProxy's", "errors"], rows


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
