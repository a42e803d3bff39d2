#!/usr/bin/env python3
"""The no-drop rate of a director between two ports of a TRex server that runs already (`./t-rex-64 -i`).

    PYTHONPATH=TREX/automation/trex_control_plane/interactive benches/trex/no_drop_rate.py --flows 1000000 --size imix

Loads stateless.py on both ports, or on the clients' alone (--one-way, for DR and TUN), lets every flow be opened first,
and searches for the greatest rate at which at most --allowed of the packets is lost. Rates are percent of the line.
"""

import argparse
import json
import sys
from pathlib import Path

import search

PROFILE = str(Path(__file__).resolve().parent / "stateless.py")
PORTS = (0, 1)
# Opens every flow at a rate that anything takes, percent of the line.
WARM_UP_PERCENT = 1


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--server", default="127.0.0.1", help="where TRex runs")
    parser.add_argument("--flows", type=int, default=1000)
    parser.add_argument("--size", default="64", help="bytes of a frame with FCS, or imix")
    parser.add_argument("--one-way", action="store_true", help="only from clients to servers")
    parser.add_argument("--seconds", type=float, default=20, help="of each probe")
    parser.add_argument("--warm-up", type=float, default=10, help="seconds")
    parser.add_argument("--resolution", type=float, default=0.5, help="percent of the line")
    parser.add_argument("--allowed", type=float, default=0.0, help="part that may be lost, as 0.00001")
    parser.add_argument("--profile", nargs=argparse.REMAINDER, default=[], help="more words for stateless.py, last")
    return parser.parse_args()


def loss(statistics, ports):
    """Part that was lost: of what each port sent, what the other did not receive."""
    sent = sum(statistics[port]["opackets"] for port in ports)
    arrived = sum(statistics[1 - port]["ipackets"] for port in ports)
    if sent == 0:
        raise RuntimeError("TRex sent nothing")
    return max(0.0, 1 - arrived / sent)


def run(client, ports, percent, seconds):
    client.clear_stats()
    client.start(ports=list(ports), mult=f"{percent}%", duration=seconds, force=True)
    client.wait_on_traffic(ports=list(ports), rx_delay_ms=500)
    return client.get_stats()


def main():
    chosen = options()
    try:
        from trex.stl.api import STLClient, STLProfile
    except ImportError:
        sys.exit("no_drop_rate.py: TRex's client library is not there: set PYTHONPATH to automation/trex_control_plane/"
                 "interactive of a TRex release")
    ports = PORTS[:1] if chosen.one_way else PORTS
    tunables = ["--flows", str(chosen.flows), "--size", chosen.size, *chosen.profile]
    client = STLClient(server=chosen.server)
    client.connect()
    try:
        client.reset(ports=list(PORTS))
        for port in ports:
            profile = STLProfile.load_py(PROFILE, direction=port, port_id=port, tunables=tunables)
            client.add_streams(profile.get_streams(), ports=[port])
        # The clients first: a reply without a connection is nobody's.
        run(client, ports[:1], WARM_UP_PERCENT, chosen.warm_up)

        def probe(percent):
            part = loss(run(client, ports, percent, chosen.seconds), ports)
            print(f"{percent:7.3f} % of the line: {part:.6%} lost", flush=True)
            return part
        rate, probes = search.no_drop_rate(probe, resolution=chosen.resolution, allowed=chosen.allowed)
        at_rate = run(client, ports, rate, chosen.seconds) if rate else None
        pps = sum(at_rate[1 - port]["ipackets"] for port in ports) / chosen.seconds if at_rate else 0
        print(json.dumps({"flows": chosen.flows, "size": chosen.size, "one_way": chosen.one_way, "percent": rate,
                          "packets_per_second": round(pps), "probes": probes}))
    finally:
        client.stop(ports=list(PORTS))
        client.disconnect()


if __name__ == "__main__":
    main()
