"""TRex, ASTF: short TCP connections to a virtual service, so many each second.

    sudo ./t-rex-64 -f benches/trex/connections.py --astf -m 1 -d 60 -t cps=100000

Each is opened, asks, is answered and is closed by the client: seven packets of the client's, about as many of the
server's. TRex's server side takes a connection by its port, whatever its address, so that NAT in between does not
disturb it.
"""

import argparse
import ipaddress

from trex.astf.api import (
    ASTFAssociationRule, ASTFIPGen, ASTFIPGenDist, ASTFIPGenGlobal, ASTFProfile, ASTFProgram, ASTFTCPClientTemplate,
    ASTFTCPServerTemplate, ASTFTemplate)

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"


def response(body_len):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % body_len + b"x" * body_len


def options(tunables):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cps", type=float, default=1000, help="connections per second; times TRex's -m")
    parser.add_argument("--body", type=int, default=64, help="bytes of an answer's body, 0 to 1,000,000")
    parser.add_argument("--client", default="198.18.16.1", help="the first client address")
    parser.add_argument("--clients", type=int, default=1000, help="client addresses, 1 to 50,000")
    parser.add_argument("--vip", default="198.18.0.100", help="the virtual service's address")
    parser.add_argument("--port", type=int, default=80, help="of the service and of the server")
    chosen = parser.parse_args(tunables)
    if not 1 <= chosen.clients <= 50_000:
        parser.error(f"--clients {chosen.clients}: must be 1 to 50000")
    if not 0 <= chosen.body <= 1_000_000:
        parser.error(f"--body {chosen.body}: must be 0 to 1000000 bytes")
    if chosen.cps <= 0:
        parser.error(f"--cps {chosen.cps}: must be above 0")
    return chosen


class Connections:
    """What TRex asks for a profile."""

    def get_profile(self, tunables=(), **_):
        chosen = options(list(tunables))
        answer = response(chosen.body)
        client = ASTFProgram()
        client.send(REQUEST)
        client.recv(len(answer))
        server = ASTFProgram()
        server.recv(len(REQUEST))
        server.send(answer)
        server.wait_for_peer_close()

        first = ipaddress.IPv4Address(chosen.client)
        addresses = ASTFIPGen(
            # With more than one pair of ports, the next pair's addresses are so far from these.
            glob=ASTFIPGenGlobal(ip_offset="1.0.0.0"),
            dist_client=ASTFIPGenDist(ip_range=[str(first), str(first + (chosen.clients - 1))], distribution="seq"),
            dist_server=ASTFIPGenDist(ip_range=[chosen.vip, chosen.vip], distribution="seq"))
        return ASTFProfile(
            default_ip_gen=addresses,
            templates=ASTFTemplate(
                client_template=ASTFTCPClientTemplate(program=client, ip_gen=addresses, port=chosen.port,
                                                      cps=chosen.cps),
                server_template=ASTFTCPServerTemplate(program=server, assoc=ASTFAssociationRule(port=chosen.port))))


def register():
    return Connections()
