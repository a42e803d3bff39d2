"""What runs in the guest: every measurement of a plan, in its order.

The plan is a file of JSON that `ipvs` has written; the measurements go line by line to another. Must be started as
root in a guest of scripts/guest.sh: it makes namespaces of plain names and loads modules.
"""

import ipaddress
import json
import subprocess
import sys
import time
from pathlib import Path

from . import guest_lab, pktgen

# Flows of which none comes twice: 65,521 addresses (a prime number) with 50,000 ports each.
NEW_FLOWS = 65_521 * 50_000
ESTABLISHED_NET, NEW_NET, SYN_NET = (ipaddress.IPv4Address(a) for a in ("10.64.0.1", "10.66.0.1", "10.68.0.1"))
# Directors whose established packets come to the server as frames of a driver, not in socket buffers.
SEND_FRAMES = ("bare-xdp", "xvs-on")
# As pktgen has it, whose frame lengths are with FCS.
FCS_LEN = 4
# How long a counted run may take, seconds of the guest.
COUNTED_LIMIT_S = 120
WARM_UP_S = 0.5
# xvs offloads a flow after so many packets (`offload_after`); how often they are sent before a measurement.
OFFLOAD_AFTER, OPENINGS = 8, 3
# New connections come to memory that nobody has touched yet, in xvs as in the kernel; most of it is touched by then.
WARM_UP_NEW_S = 2.0


class Bench:
    """The plan, and the file that its measurements go to."""

    def __init__(self, plan, out):
        self.plan, self.out = plan, out
        cpus = plan["cpus"]
        self.generator_cpu, self.director_cpu, self.sink_cpu = 0, min(1, cpus - 1), 2 if cpus > 2 else 0

    def run(self):
        subprocess.run(["modprobe", "-a", "veth", "pktgen", "act_gact", "cls_matchall", "sch_ingress"], check=True)
        # As operators do: a table that is not the bottleneck with 100,000 connections.
        subprocess.run(["modprobe", "ip_vs", f"conn_tab_bits={self.plan['ipvs_tab_bits']}"], check=True)
        for mode in self.plan["modes"]:
            for director in self.plan["directors"]:
                self.director(self.plan["round"], mode, director)

    def director(self, number, mode, director):
        """All traffic through one director."""
        lab = guest_lab.Lab(self.generator_cpu, self.sink_cpu, self.director_cpu)
        name, _, flavour = director.partition("-")
        is_bare = name == "bare"
        try:
            if director == "ipvs":
                lab.start_ipvs(mode, None)
            elif is_bare:
                lab.start_bare(flavour, self.plan["bare"])
            else:
                lab.start_xvs(mode, flavour or None, self.plan["xvs"])
            generator = pktgen.Pktgen(lab.proc_net("client"), ["ip", "netns", "exec", "client"], "out0",
                                      self.generator_cpu)
            known = {"kind": "measurement", "guest": self.plan["guest"], "round": number, "mode": mode,
                     "director": director}
            kept, new = self.kinds(established=self.established, frames=self.frames), {}
            if not is_bare:
                new = self.kinds(**{"new-udp": self.new_udp, "new-syn": self.new_syn})
            for flows in self.plan["flows"] if kept else []:
                self.open(lab, generator, flows)
                sends_frames = director in SEND_FRAMES
                if sends_frames:
                    lab.sink_frames(self.plan["sink"])
                for size in self.plan["sizes"]:
                    for what, measure in kept.items():
                        self.tell({**known, "what": what, "flows": flows, "size": size,
                                   **measure(lab, generator, flows, size)})
                if sends_frames:
                    lab.sink_frames()
            # Last, since they fill the director's table.
            for what, measure in new.items():
                self.tell({**known, "what": what, "flows": None, "size": 64, **measure(lab, generator)})
        finally:
            lab.end()

    def kinds(self, **measures):
        """Those of the kinds that the plan wants."""
        return {what: measure for what, measure in measures.items() if what in self.plan["kinds"]}

    def tell(self, line):
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()
        flows = "" if line["flows"] is None else f" {line['flows']} flows"
        print(f"{line['guest']} round {line['round']} {line['mode']} {line['director']} {line['what']}{flows} "
              f"{line['size']} bytes: {line['received_per_s']:,.0f} packets/s, {line['loss']:.0%} of "
              f"{line['offered_per_s']:,.0f} lost, {line['director_ns_per_packet']:,.0f} ns each", flush=True)
        if line["received"] == 0:
            log = guest_lab.LOG.read_text() if guest_lab.LOG.exists() else ""
            raise RuntimeError(f"nothing arrived at the server:\n{log}")

    # ---- the kinds of traffic

    def commands(self, lab, flows, size, first_address, count=0):
        return pktgen.commands(flows=flows, frame_len=size, first_address=first_address, destination=guest_lab.VIP,
                               port=guest_lab.PORT, destination_mac=lab.director_mac, count=count)

    def open(self, lab, generator, flows):
        """Opens flows, again and again, since packets are lost: until they are offloaded where they are to be."""
        for _ in range(OPENINGS):
            generator.prepare(self.commands(lab, flows, 64, ESTABLISHED_NET, OFFLOAD_AFTER * flows))
            self.counted(generator)
            self.settled(lab)

    def established(self, lab, generator, flows, size):
        """Packets of connections that are there already, in socket buffers, from pktgen."""
        return self.pktgen_run(lab, generator, self.commands(lab, flows, size, ESTABLISHED_NET, self.plan["count"]))

    def frames(self, lab, _, flows, size):
        """The same, in a driver's pages, as a NIC has them."""
        _, ports = pktgen.addresses_and_ports(flows)
        return self.flood(lab, "--flows", str(flows), "--ports", str(ports), "--src", str(ESTABLISHED_NET),
                          "--frame-len", str(size - FCS_LEN))

    def new_udp(self, lab, generator):
        commands = self.commands(lab, NEW_FLOWS, 64, NEW_NET, self.plan["count"])
        return self.pktgen_run(lab, generator, commands, WARM_UP_NEW_S)

    def pktgen_run(self, lab, generator, commands, warm_up_s=WARM_UP_S):
        """Sends for some seconds and measures the middle; or sends and measures a number of packets."""
        generator.prepare(commands)
        if self.plan["count"]:
            before = lab.counters()
            self.counted(generator)
            return difference(before, self.settled(lab))
        generator.start()
        try:
            return self.measured(lab, warm_up_s)
        finally:
            generator.stop()

    def new_syn(self, lab, _):
        """SYNs, which pktgen cannot make."""
        return self.flood(lab, "--syn", "--flows", "1000000000", "--src", str(SYN_NET))

    def flood(self, lab, *what):
        """What flood.rs sends in frames of a driver: for some seconds, of which the middle is measured; or a number."""
        flood = ["ip", "netns", "exec", "client", self.plan["flood"], "out0", *what, "--dst", guest_lab.VIP,
                 "--port", str(guest_lab.PORT), "--src-mac", lab.client_mac, "--dst-mac", lab.director_mac,
                 "--core", str(self.generator_cpu)]
        if self.plan["count"]:
            before = lab.counters()
            subprocess.run([*flood, "--frames", str(self.plan["count"])], check=True, stdout=subprocess.DEVNULL)
            return difference(before, self.settled(lab))
        process = subprocess.Popen([*flood, "--seconds", "600"], stdout=subprocess.DEVNULL)
        try:
            at = lab.counters()["offered"]
            until = time.monotonic() + COUNTED_LIMIT_S
            while lab.counters()["offered"] < at + 1000:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"flood {' '.join(what)} sends nothing")
                time.sleep(0.1)
            return self.measured(lab, WARM_UP_S)
        finally:
            process.terminate()
            process.wait()

    # ---- sending and measuring

    def measured(self, lab, warm_up_s):
        time.sleep(warm_up_s)
        before = lab.counters()
        time.sleep(self.plan["seconds"])
        return difference(before, lab.counters())

    def counted(self, generator):
        generator.start()
        if not generator.wait(COUNTED_LIMIT_S):
            generator.stop()
            raise RuntimeError(f"pktgen did not end within {COUNTED_LIMIT_S} s:\n{generator.report()}")

    def settled(self, lab):
        """The counters once nothing arrives any more."""
        last = lab.counters()
        while True:
            time.sleep(0.2)
            now = lab.counters()
            if now["received"] == last["received"]:
                return last
            last = now


def difference(before, after):
    """What one measurement found."""
    delta = {key: after[key] - before[key] for key in after}
    seconds = delta.pop("at_ns") / 1e9
    # What the server's side had no room for was forwarded all the same.
    forwarded = max(1, delta["received"] + delta["sink_full"])
    return {
        **delta, "seconds": round(seconds, 4),
        "received_per_s": round(delta["received"] / seconds, 1),
        "offered_per_s": round(delta["offered"] / seconds, 1),
        "loss": round(max(0.0, 1 - delta["received"] / max(1, delta["offered"])), 5),
        "director_ns_per_packet": round(delta["director_ns"] / forwarded, 1),
        "director_part_of_cpu": round(delta["director_ns"] / 1e9 / seconds, 4),
    }


def main():
    plan = json.loads(Path(sys.argv[1]).read_text())
    with open(sys.argv[2], "w") as out:
        Bench(plan, out).run()


if __name__ == "__main__":
    main()
