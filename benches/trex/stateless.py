"""TRex, stateless: UDP flows from clients to a virtual service, and the server's replies, 64 bytes to IMIX.

    start -f benches/trex/stateless.py -m 50% -t --flows 1000000 --size imix

Port 0 of TRex is the clients, port 1 the one server. On port 0 packets go from as many client addresses and ports as
there are flows to the VIP; on port 1 the same flows' replies go from the server to those clients, as NAT wants them
(with DR and TUN servers answer past the director: start port 0 alone, `-p 0`).
"""

import argparse
import ipaddress

from trex.stl.api import (
    Ether, IP, UDP, CTRexVmInsFixHwCs, STLFlowLatencyStats, STLPktBuilder, STLStream, STLTXCont, STLVM)

# Flows on one client address; its ports begin here.
FLOWS_PER_ADDRESS = 1000
FIRST_PORT = 10_000
# Bytes of a frame with FCS, and how many of twelve: the simple IMIX.
IMIX = [(64, 7), (594, 4), (1518, 1)]
FCS_LEN = 4
# Where the latency's stream begins to number its clients, above the others.
LATENCY_PORT = 9_000


def options(tunables):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--flows", type=int, default=1000, help="1 to 1,000,000: up to 1,000, or a multiple of it")
    parser.add_argument("--size", default="64", help="bytes of a frame with FCS, 64 to 1518, or `imix`")
    parser.add_argument("--client", default="198.18.16.1", help="the first client address")
    parser.add_argument("--vip", default="198.18.0.100", help="the virtual service's address")
    parser.add_argument("--rip", default="198.19.0.2", help="the server's address")
    parser.add_argument("--port", type=int, default=80, help="of the service and of the server")
    parser.add_argument("--latency", type=int, default=0, metavar="PPS", help="packets per second that measure latency")
    chosen = parser.parse_args(tunables)
    if not 1 <= chosen.flows <= 1_000_000 or chosen.flows > FLOWS_PER_ADDRESS and chosen.flows % FLOWS_PER_ADDRESS:
        parser.error(f"--flows {chosen.flows}: must be 1 to 1000, or a multiple of 1000 up to 1000000")
    if chosen.size != "imix" and not (chosen.size.isdigit() and 64 <= int(chosen.size) <= 1518):
        parser.error(f"--size {chosen.size}: must be 64 to 1518 bytes, or imix")
    return chosen


class Stateless:
    """What TRex asks for streams."""

    def get_streams(self, direction=0, port_id=0, tunables=(), **_):
        chosen = options(list(tunables))
        sizes = IMIX if chosen.size == "imix" else [(int(chosen.size), 1)]
        streams = [self.stream(chosen, direction, size, weight) for size, weight in sizes]
        if chosen.latency:
            packet = self.packet(chosen, direction, 68, chosen.client, LATENCY_PORT)
            streams.append(STLStream(packet=STLPktBuilder(pkt=packet), mode=STLTXCont(pps=chosen.latency),
                                     flow_stats=STLFlowLatencyStats(pg_id=1 + direction)))
        return streams

    def stream(self, chosen, direction, size, weight):
        packet = self.packet(chosen, direction, size, chosen.client, FIRST_PORT)
        return STLStream(packet=STLPktBuilder(pkt=packet, vm=self.flows(chosen, direction)), mode=STLTXCont(pps=weight))

    def packet(self, chosen, direction, size, client, client_port):
        if direction == 0:
            packet = Ether() / IP(src=client, dst=chosen.vip) / UDP(sport=client_port, dport=chosen.port)
        else:
            packet = Ether() / IP(src=chosen.rip, dst=client) / UDP(sport=chosen.port, dport=client_port)
        return packet / (b"x" * (size - FCS_LEN - len(packet)))

    def flows(self, chosen, direction):
        """Writes each flow's client into the packet. The NIC mends the checksums, as it does for real hosts."""
        if chosen.flows == 1:
            return None
        ports = min(chosen.flows, FLOWS_PER_ADDRESS)
        first = ipaddress.IPv4Address(chosen.client)
        vm = STLVM()
        vm.tuple_var(name="client", ip_min=str(first), ip_max=str(first + (chosen.flows // ports - 1)),
                     port_min=FIRST_PORT, port_max=FIRST_PORT + ports - 1)
        vm.write(fv_name="client.ip", pkt_offset="IP.src" if direction == 0 else "IP.dst")
        vm.write(fv_name="client.port", pkt_offset="UDP.sport" if direction == 0 else "UDP.dport")
        vm.fix_chksum_hw(l3_offset="IP", l4_offset="UDP", l4_type=CTRexVmInsFixHwCs.L4_TYPE_UDP)
        return vm


def register():
    return Stateless()
