#!/usr/bin/env python3
"""Checks the profiles of this folder against TRex's own client library, without TRex and without a NIC.

    benches/trex/check.py TREX       the folder of a TRex release or checkout that has automation/ and external_libs/
                                     (in a checkout of its sources: scripts/)

Every profile is loaded by the library as TRex's console would, in all its sizes and flow counts, and compiled; then the
packets' bytes and the field engine's instructions are held against what they should be, by code that shares nothing with
the library. Needs Python 3 and that folder; it brings the scapy that it wants.
"""

import ipaddress
import itertools
import json
import socket
import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLIENT, VIP, RIP = "198.18.16.1", "198.18.0.100", "198.19.0.2"
FLOWS, SIZES = (1, 10, 1000, 10_000, 100_000, 1_000_000), ("64", "128", "1400", "1518", "imix")
IMIX = {64: 7, 594: 4, 1518: 1}
IP_SRC_AT, IP_DST_AT, SPORT_AT, DPORT_AT = 26, 30, 34, 36


def equal(what, found, wanted):
    if found != wanted:
        sys.exit(f"check.py: {what}: {found!r}, and should be {wanted!r}")


def checksum(data):
    words = struct.unpack(f"!{len(data) // 2}H", data)
    total = sum(words)
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def parse(frame):
    """The addresses, ports and lengths of a UDP frame, all checksums verified."""
    equal("Ethernet type", frame[12:14], b"\x08\x00")
    version, _, total, _, _, _, protocol, _, source, destination = struct.unpack("!BBHHHBBH4s4s", frame[14:34])
    equal("IP version and header length, protocol", (version, protocol), (0x45, 17))
    equal("IP checksum", checksum(frame[14:34]), 0xffff)
    equal("IP length", total, len(frame) - 14)
    sport, dport, udp_len, udp_sum = struct.unpack("!HHHH", frame[34:42])
    equal("UDP length", udp_len, total - 20)
    segment = source + destination + struct.pack("!HH", 17, udp_len) + frame[34:] + b"\0" * (udp_len % 2)
    if udp_sum:
        equal("UDP checksum", checksum(segment), 0xffff)
    return socket.inet_ntoa(source), socket.inet_ntoa(destination), sport, dport


def check_stream(stream, direction, flows):
    """One stream's packet and field engine; the length of its frames with FCS, and its weight."""
    packet = stream.get_pkt()
    wanted = (CLIENT, VIP, 10_000, 80) if direction == 0 else (RIP, CLIENT, 80, 10_000)
    equal("addresses and ports", parse(packet), wanted)
    said = stream.to_json()
    instructions = said["vm"]["instructions"]
    if flows == 1:
        equal("instructions of one flow", instructions, [])
    else:
        check_flows(instructions, direction, flows)
    return len(packet) + 4, said["mode"]["rate"]["value"]


def check_flows(instructions, direction, flows):
    by_type = {}
    for one in instructions:
        by_type.setdefault(one["type"], []).append(one)
    equal("kinds of instructions", sorted(by_type), ["fix_checksum_hw", "tuple_flow_var", "write_flow_var"])
    clients, = by_type["tuple_flow_var"]
    addresses = clients["ip_max"] - clients["ip_min"] + 1
    ports = clients["port_max"] - clients["port_min"] + 1
    equal("flows", addresses * ports, flows)
    equal("first client", (clients["ip_min"], clients["port_min"]), (int(ipaddress.IPv4Address(CLIENT)), 10_000))
    equal("limit of flows", clients["limit_flows"], 0)
    where = {one["name"].split(".")[-1]: one["pkt_offset"] for one in by_type["write_flow_var"]}
    at = (IP_SRC_AT, SPORT_AT) if direction == 0 else (IP_DST_AT, DPORT_AT)
    equal("where the client is written", (where["ip"], where["port"]), at)
    mend, = by_type["fix_checksum_hw"]
    equal("what the NIC mends", (mend["l2_len"], mend["l3_len"]), (14, 20))


def check_stateless():
    from trex.stl.api import STLProfile
    count = 0
    for flows, size, direction in itertools.product(FLOWS, SIZES, (0, 1)):
        profile = STLProfile.load_py(str(HERE / "stateless.py"), direction=direction, port_id=direction,
                                     tunables=["--flows", str(flows), "--size", size])
        found = [check_stream(stream, direction, flows) for stream in profile.get_streams()]
        wanted = IMIX if size == "imix" else {int(size): 1}
        equal(f"frames of {size}", dict(found), wanted)
        json.dumps(profile.to_json())  # what goes to TRex
        count += len(found)
    profile = STLProfile.load_py(str(HERE / "stateless.py"), tunables=["--latency", "1000"])
    equal("streams with latency", len(profile.get_streams()), 2)
    return count


def check_connections():
    from trex.astf.api import ASTFProfile
    for cps, clients in ((1000, 1000), (250_000, 50_000)):
        profile = ASTFProfile.load_py(str(HERE / "connections.py"),
                                      tunables=["--cps", str(cps), "--clients", str(clients)])
        said = profile.to_json()
        template, = said["templates"]
        equal("connections per second", template["client_template"]["cps"], cps)
        equal("port asked", template["client_template"]["port"], 80)
        equal("port served", template["server_template"]["assoc"], [{"port": 80}])
        ranges = {one["dir"]: (one["ip_start"], one["ip_end"]) for one in said["ip_gen_dist_list"]}
        last = str(ipaddress.IPv4Address(CLIENT) + (clients - 1))
        equal("addresses", ranges, {"c": (CLIENT, last), "s": (VIP, VIP)})
        names = [[command["name"] for command in program["commands"]] for program in said["program_list"]]
        if ["tx", "rx"] not in names:
            sys.exit(f"check.py: no program asks first and then listens: {names}")
    return 2


def check_calls():
    """The calls of no_drop_rate.py exist as it makes them; it cannot run without TRex."""
    import inspect
    from trex.stl.api import STLClient
    calls = {"reset": ["ports"], "add_streams": ["streams", "ports"], "clear_stats": [], "get_stats": [], "connect": [],
             "start": ["ports", "mult", "duration", "force"], "wait_on_traffic": ["ports", "rx_delay_ms"],
             "stop": ["ports"], "disconnect": []}
    for name, words in calls.items():
        known = inspect.signature(inspect.unwrap(getattr(STLClient, name))).parameters
        equal(f"parameters of {name}", [word for word in words if word in known], words)
    return len(calls)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    library = Path(sys.argv[1]) / "automation" / "trex_control_plane" / "interactive"
    if not (library / "trex" / "stl" / "api.py").exists():
        sys.exit(f"check.py: {library} has no client library of TRex: name the folder of a TRex release, or `scripts` in "
                 "a checkout of its sources")
    sys.path.insert(0, str(library))
    sys.dont_write_bytecode = True
    import warnings
    warnings.simplefilter("ignore")
    print(f"stateless.py: {check_stateless()} streams of {len(FLOWS)} flow counts, {len(SIZES)} sizes and 2 directions "
          "are right")
    print(f"connections.py: {check_connections()} profiles are right")
    print(f"no_drop_rate.py: {check_calls()} kinds of calls are right")


if __name__ == "__main__":
    main()
