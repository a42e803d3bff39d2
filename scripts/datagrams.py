#!/usr/bin/env python3
"""A steady stream of numbered datagrams, and what of it arrived: how a pause in forwarding is seen.

  datagrams.py send ADDRESS PORT PER_SECOND    sends until SIGTERM, then prints how many it sent
  datagrams.py receive PORT                    receives until SIGTERM, then prints how many arrived, the longest
                                               gap between two and the longest way of one, both in ms

Both have to run on one machine: a datagram carries the time at which it was sent.
"""

import signal
import socket
import struct
import sys
import time

FORMAT = struct.Struct("!QQ")
# How long the receiver waits for what is still on its way, in seconds.
LINGER_S = 0.3

ended = False


def end(_signal, _frame):
    global ended
    ended = True


def send(address, port, per_second):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((address, port))
    step_ns = 1_000_000_000 // per_second
    number, due = 0, time.monotonic_ns()
    while not ended:
        now = time.monotonic_ns()
        if now < due:
            time.sleep((due - now) / 1e9)
            continue
        sock.send(FORMAT.pack(number, time.monotonic_ns()))
        number += 1
        # Who was kept from running does not send a burst afterwards: that would be another test.
        due = max(due + step_ns, now - step_ns)
    print(number)


def receive(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("", port))
    sock.settimeout(LINGER_S)
    arrived, last_ns, gap_ns, way_ns = set(), None, 0, 0
    while True:
        try:
            data = sock.recv(64)
        except TimeoutError:
            if ended:
                break
            continue
        now = time.monotonic_ns()
        number, sent_ns = FORMAT.unpack(data)
        arrived.add(number)
        way_ns = max(way_ns, now - sent_ns)
        if last_ns is not None:
            gap_ns = max(gap_ns, now - last_ns)
        last_ns = now
    print(len(arrived), f"{gap_ns / 1e6:.1f}", f"{way_ns / 1e6:.1f}")


signal.signal(signal.SIGTERM, end)
match sys.argv[1:]:
    case ["send", address, port, per_second]:
        send(address, int(port), int(per_second))
    case ["receive", port]:
        receive(int(port))
    case _:
        sys.exit(__doc__)
