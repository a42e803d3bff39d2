"""Tests of the arithmetic, of what is refused, and of what is told to pktgen. Run by `cargo test --test bench_scripts`."""

import importlib.util
import ipaddress
import itertools
import os
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

from . import figures, guest_lab, ipvs, ipvs_guest, machine, peers, peers_ways, pktgen, proc, results, table

BENCHES = Path(__file__).resolve().parents[1]


class Figures(unittest.TestCase):
    def test_a_spread_is_the_median_and_both_ends(self):
        self.assertEqual(figures.spread([5, 1, 2]), figures.Spread(2, 1, 5, 3))
        self.assertEqual(figures.spread([4, 1, 2, 3]).median, 2.5)

    def test_fewer_than_three_rounds_tell_nothing(self):
        for few in ([], [1], [1, 2]):
            with self.assertRaises(figures.TooFewRounds):
                figures.spread(few)
        with self.assertRaises(figures.TooFewRounds):
            figures.ratio({1: 1, 2: 1, 3: 1}, {1: 1, 2: 1, 4: 1})

    def test_a_ratio_is_of_rounds_not_of_medians(self):
        ours, theirs = {1: 10, 2: 40, 3: 90}, {1: 10, 2: 20, 3: 100}
        # 1, 2 and 0.9; of medians it would be 2.
        self.assertEqual(figures.ratio(ours, theirs), figures.Spread(1, 0.9, 2, 3))

    def test_rounds_that_cannot_be_divided_by_do_not_count(self):
        ones = {n: 1 for n in range(1, 5)}
        self.assertEqual(figures.ratio(ones, {**ones, 2: 0}).rounds, 3)
        with self.assertRaises(figures.TooFewRounds):
            figures.ratio(ones, {1: 1, 2: 0, 3: 0, 4: 1})

    def test_added_is_above_the_base_of_the_same_round(self):
        base, nft, xvs = {1: 100, 2: 200, 3: 300}, {1: 120, 2: 220, 3: 320}, {1: 105, 2: 210, 3: 320}
        self.assertEqual(figures.added(xvs, base), figures.Spread(10, 5, 20, 3))
        self.assertEqual(figures.added_ratio(xvs, nft, base), figures.Spread(0.5, 0.25, 1, 3))
        with self.assertRaises(figures.TooFewRounds):
            figures.added_ratio(xvs, {**nft, 3: 300}, base)


class Tables(unittest.TestCase):
    def test_a_ratio_that_cannot_be_told_says_why(self):
        self.assertEqual(table.or_why(figures.ratio, {1: 2, 2: 2}, {1: 1, 2: 1}), "only 2 rounds")
        self.assertEqual(table.or_why(figures.ratio, {}, {1: 1}), "-")
        self.assertEqual(table.or_why(figures.ratio, {1: 2, 2: 3, 3: 4}, {1: 1, 2: 1, 3: 1}), "3.00 (2.00 to 4.00)")

    def test_columns_are_as_wide_as_they_need(self):
        self.assertEqual(table.table(["a", "bb"], [["ccc", 1]]), "a    bb\n---  --\nccc   1")


class Results(unittest.TestCase):
    def test_what_was_written_is_read(self):
        with tempfile.TemporaryDirectory() as folder:
            file = results.Results(Path(folder, "new", "file"), {"cpu": "x"})
            for number, value in ((1, 5), (2, None), (3, 7)):
                file.write({"kind": "measurement", "round": number, "way": "a", "value": value})
            file.write({"kind": "measurement", "round": 1, "way": "b", "value": 9})
            file.close(status=0)
            head, measured = results.load(file.path)
            self.assertEqual(head["cpu"], "x")
            self.assertEqual(results.by_round(measured, lambda one: one["value"], way="a"), {1: 5, 3: 7})
            Path(folder, "other").write_text("{}\n")
            with self.assertRaisesRegex(ValueError, "no results file"):
                results.load(Path(folder, "other"))


def stat(pid, parent, own, children=0):
    return f"{pid} (a (b) c) S {parent} 0 0 0 -1 0 0 0 0 0 {own} 0 {children} 0 20 0 1 0 0"


class ForeignLoad(unittest.TestCase):
    def found(self, *processes):
        return {one[0]: machine.parse_stat(stat(*one)) for one in processes}

    def test_a_name_may_hold_brackets_and_blanks(self):
        self.assertEqual(machine.parse_stat(stat(7, 3, 11, 5)), (3, 11, 5))

    def test_foreign_is_who_is_neither_ours_nor_the_kernels_nor_above_us(self):
        found = self.found((1, 0, 9), (2, 0, 9), (20, 2, 9), (50, 1, 9), (60, 50, 9), (61, 60, 9), (70, 50, 9), (80, 1, 9))
        self.assertEqual(set(machine.foreign(found, 60)), {70, 80})

    def test_servers_that_the_script_has_started_are_its_own(self):
        found = self.found((1, 0, 9), (50, 1, 9), (60, 50, 9), (61, 50, 9), (62, 61, 9), (70, 1, 9))
        with unittest.mock.patch.dict(os.environ, {"BENCH_PID": "50"}):
            self.assertEqual(set(machine.foreign(found, machine.bench_pid())), {70})

    def test_who_is_below_comes_before_who_is_above(self):
        found = self.found((1, 0, 0), (5, 1, 0), (6, 5, 0), (7, 6, 0), (8, 1, 0))
        self.assertEqual(machine.below(found, 5), [7, 6, 5])

    def test_time_is_counted_once_when_a_child_is_reaped(self):
        ticks = machine.TICKS_PER_S
        before = machine.foreign(self.found((80, 1, 0), (81, 80, 10 * ticks)), 60)
        after = machine.foreign(self.found((80, 1, 0, 11 * ticks)), 60)
        self.assertEqual(machine.used_cores(before, after, 1)[0], 1)

    def test_a_child_that_nobody_reaps_hides_nobody_else(self):
        ticks = machine.TICKS_PER_S
        before = machine.foreign(self.found((80, 1, 0), (81, 80, 10 * ticks)), 60)
        after = machine.foreign(self.found((80, 1, 2 * ticks)), 60)
        self.assertEqual(machine.used_cores(before, after, 2), (1, 80))

    def test_waiting_is_not_busy(self):
        self.assertEqual(machine.busy_part("cpu 0 0 0 0 0 0 0 0", "cpu 10 0 10 50 10 10 10 0"), 0.4)

    def test_load_is_refused_by_who_it_is_unless_allowed(self):
        busy = machine.Sample(cores=1.0, busy=0.5, who="cc1 (pid 5)")
        look, machine.look = machine.look, lambda seconds: busy
        try:
            with self.assertRaisesRegex(machine.ForeignLoad, r"1\.00 cores.*cc1 \(pid 5\).*--allow-load"):
                machine.refuse_foreign_load(False)
            self.assertEqual(machine.refuse_foreign_load(True), {"busy": 0.5, "foreign_cores": 1.0})
            busy = machine.Sample(cores=0.01, busy=0.02, who="init (pid 1)")
            self.assertEqual(machine.refuse_foreign_load(False), {"busy": 0.02, "foreign_cores": 0.01})
        finally:
            machine.look = look


class Scripts(unittest.TestCase):
    """The commands as they are typed."""

    def refused(self, module, *arguments):
        done = subprocess.run([sys.executable, "-m", f"compare.{module}", *arguments], cwd=BENCHES, text=True,
                              capture_output=True, env={**os.environ, "PYTHONPATH": str(BENCHES)})
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_two_rounds_are_refused(self):
        self.assertIn("2 rounds are too few", self.refused("ipvs", "--rounds", "2"))
        self.assertIn("2 rounds are too few", self.refused("peers", "--check", "--rounds", "2"))

    def test_what_there_is_not_is_refused_by_name(self):
        self.assertIn("no such mode: fullnet", self.refused("ipvs", "--modes", "nat,fullnet"))
        self.assertIn("no such kind of load: x", self.refused("peers", "--check", "--kinds", "x"))
        with self.assertRaisesRegex(ValueError, "no such way: squid"):
            peers.choose(["squid"], ["direct", "nft"])

    def test_a_setting_is_measured_only_if_asked_for(self):
        ways = ["direct", "xvs-nat-on"]
        self.assertEqual(peers.choose(None, ways), ways)
        self.assertEqual(peers.choose(["xvs-nat-on-power"], ways), ["direct", "xvs-nat-on-power"])
        with self.assertRaisesRegex(ValueError, "no such way: direct-power.*-power or -latency"):
            peers.choose(["direct-power"], ways)
        config = peers_ways.xvs_config("nat", ["on", "power"], [0], "/x")
        self.assertIn('offload = "on"\nidle_spin_us = 0\n', config)

    def test_the_table_of_paced_requests_tells_what_is_over_direct_ones(self):
        def one(way, number, p99, beside):
            return {"load": "paced", "round": number, "way": way, "requests": 9, "bytes": 9, "seconds": 1, "errors": 1,
                    "busy_s": 1, "p50_us": p99 / 2, "p99_us": p99, "beside": {"p50_us": beside / 2, "p99_us": beside}}
        measured = [one(way, n, p99 + n, 100) for n in (1, 2, 3) for way, p99 in (("direct", 100), ("xvs-nat-off", 150))]
        header, rows = peers.load_table(["direct", "xvs-nat-off"], measured)
        self.assertEqual(dict(zip(header, rows[1])), {
            "way": "xvs-nat-off", "p50 us": "76", "p99 us": "152", "p50 over direct": "25 (25 to 25)",
            "p99 over direct": "50 (50 to 50)", "p50 in turn": "26 (26 to 26)", "p99 in turn": "52 (51 to 53)", "errors": 3})

    def test_direct_routing_is_always_measured(self):
        self.assertEqual(peers.choose(["nft"], ["direct", "nft", "haproxy"]), ["direct", "nft"])

    def test_where_a_way_leads(self):
        self.assertEqual([peers_ways.address(way) for way in ("direct", "nft", "xvs-nat-on", "xvs-dr-off")],
                         [peers_ways.DIRECT, peers_ways.VIP, peers_ways.VIP, peers_ways.VIP_DR])


class Pktgen(unittest.TestCase):
    def pairs(self, lines):
        """What pktgen would send from, as its mod_cur_headers counts: both up by one, each in its own circle."""
        said = dict(line.split(" ", 1) for line in lines)
        first, last = (int(ipaddress.IPv4Address(said[key])) for key in ("src_min", "src_max"))
        low, high = int(said["udp_src_min"]), int(said["udp_src_max"])
        address, port, seen = first, low, set()
        while (address, port) not in seen:
            seen.add((address, port))
            address = address + 1 if address < last else first
            if low < high:
                port = port + 1 if port + 1 < high else low
        return len(seen)

    def test_there_are_as_many_flows_as_asked_for(self):
        for flows in (1, 10, 1000, 10_000, 100_000, 1_000_000):
            lines = pktgen.commands(flows=flows, frame_len=64, first_address=ipaddress.IPv4Address("10.64.0.1"),
                                    destination="10.0.0.1", port=80, destination_mac="02:00:00:00:00:01")
            self.assertEqual(self.pairs(lines), flows)
            self.assertIn("pkt_size 60", lines)

    def test_flows_that_cannot_be_are_refused(self):
        with self.assertRaisesRegex(ValueError, "1000003 flows"):
            pktgen.addresses_and_ports(1_000_003)

    def test_new_flows_are_not_those_that_are_there(self):
        addresses, _ = pktgen.addresses_and_ports(ipvs_guest.NEW_FLOWS)
        self.assertLess(ipvs_guest.NEW_NET + addresses, ipvs_guest.SYN_NET)
        self.assertLess(ipvs_guest.ESTABLISHED_NET + 1000, ipvs_guest.NEW_NET)
        net = ipaddress.IPv4Network(guest_lab.CLIENT_NET)
        for first in (ipvs_guest.ESTABLISHED_NET, ipvs_guest.NEW_NET, ipvs_guest.SYN_NET + 20_000):
            self.assertIn(first, net)

    def test_the_script_for_nics_says_the_same(self):
        for flows, direction in itertools.product((1, 1000, 1_000_000), ("request", "reply")):
            done = subprocess.run([BENCHES / "pktgen" / "pktgen.sh", "--device", "eth1", "--direction", direction, "--mac",
                                   "02:00:00:00:00:01", "--flows", str(flows), "--threads", "2", "--size", "imix",
                                   "--print"], check=True, capture_output=True, text=True)
            of_second = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith("eth1@1 ")]
            if direction == "reply":
                swapped = {"src": "dst", "dst": "src"}
                of_second = [line if "mac" in line else "_".join(swapped.get(w, w) for w in line.split("_"))
                             for line in of_second]
            self.assertEqual(self.pairs(of_second), flows)
            self.assertIn("imix_weights 60,7 590,4 1514,1", of_second)

    def test_the_script_for_nics_refuses_by_name(self):
        for words, said in ((["--flows", "3"], "--flows 3"), (["--size", "63"], "--size 63"), (["--mac", "x"], "--mac 'x'"),
                            (["--client", "1.2.3"], "1.2.3 is no IPv4 address"), (["--what"], "no such option: --what")):
            base = ["--device", "eth1", "--direction", "request", "--mac", "02:00:00:00:00:01", "--print"]
            done = subprocess.run([BENCHES / "pktgen" / "pktgen.sh", *base, *words], capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn(said, done.stderr)


class Guest(unittest.TestCase):
    def test_a_measurement_is_the_difference(self):
        before = {"at_ns": 0, "offered": 100, "taken": 90, "received": 10, "sink_full": 0, "director_ns": 1000}
        after = {"at_ns": 2_000_000_000, "offered": 1100, "taken": 590, "received": 510, "sink_full": 0,
                 "director_ns": 1_000_001_000}
        found = ipvs_guest.difference(before, after)
        self.assertEqual((found["received_per_s"], found["offered_per_s"], found["loss"]), (250, 500, 0.5))
        self.assertEqual((found["director_ns_per_packet"], found["director_part_of_cpu"]), (2_000_000, 0.5))
        self.assertEqual(ipvs.per_cpu_s(found), 500)

    def test_counters_of_an_interface(self):
        text = "head\n  in0: 10 1 0 2 0 0 0 0 20 3 0 4 0 0 0 0\n in01: 0 9 0 0 0 0 0 0 0 9 0 9 0 0 0 0\n"
        self.assertEqual(proc.interface(text, "in0"), {"rx": 1, "rx_dropped": 2, "tx": 3, "tx_dropped": 4})
        with self.assertRaises(ValueError):
            proc.interface(text, "in1")

    def test_a_longer_plan_may_take_longer(self):
        plan = {"modes": ["nat"], "directors": ["ipvs", "xvs"], "flows": [1], "sizes": [64], "kinds": ["frames"],
                "seconds": 2, "guest": "speed"}
        self.assertLess(ipvs.bound_s(plan), ipvs.bound_s({**plan, "modes": ["nat", "dr"]}))
        self.assertLess(ipvs.bound_s(plan), ipvs.bound_s({**plan, "guest": "instructions"}))


class NoDropRate(unittest.TestCase):
    def setUp(self):
        spec = importlib.util.spec_from_file_location("search", BENCHES / "trex" / "search.py")
        self.search = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.search)

    def test_it_finds_the_greatest_rate_within_its_resolution(self):
        for limit in (0.7, 12.3, 50, 99.9):
            rate, _ = self.search.no_drop_rate(lambda at: max(0.0, at - limit) / 100, resolution=0.25)
            self.assertTrue(limit - 0.25 <= rate <= limit, (rate, limit))

    def test_the_line_and_nothing_at_all(self):
        self.assertEqual(self.search.no_drop_rate(lambda at: 0.0)[0], 100)
        self.assertEqual(self.search.no_drop_rate(lambda at: 0.5)[0], 0)

    def test_what_may_be_lost_may_be_lost(self):
        self.assertEqual(self.search.no_drop_rate(lambda at: 1e-6, allowed=1e-5)[0], 100)

    def test_one_lucky_run_is_no_rate(self):
        asked = []

        def probe(rate):
            asked.append(rate)
            return 0.0 if rate <= 25 or asked.count(rate) == 1 and rate <= 50 else 0.1
        rate, probes = self.search.no_drop_rate(probe, resolution=1)
        self.assertLessEqual(rate, 25)
        self.assertEqual([rate for rate, _ in probes], asked)


if __name__ == "__main__":
    unittest.main()
