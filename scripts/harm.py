#!/usr/bin/env python3
"""Clients of a running xvs that mean harm: harm.py KIND XVS SOCKET

  stalled   a listing of all connections that a pager holds for 40 s, and 50 clients that take nothing at all
  killed    listings that are killed half-way
  bodies    requests of 100 MB, with and without saying so before
  garbage   random bytes
  crowd     10,000 connections at once

Fails if xvs does something that it should not; how forwarding takes it is for the caller to see.
"""

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time

LIST = b"GET /v1/connections HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n"

kind, xvs, path = sys.argv[1:]


def connect():
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    while True:
        try:
            sock.connect(path)
            return sock
        except BlockingIOError:
            time.sleep(0.005)


def send(sock, data):
    try:
        sock.sendall(data)
        return True
    except (BrokenPipeError, ConnectionResetError):
        return False


def listing():
    return subprocess.Popen([xvs, "ipvsadm", "-Lnc"], stdout=subprocess.PIPE)


def stalled():
    pager = listing()
    crowd = [connect() for _ in range(50)]
    for sock in crowd:
        send(sock, LIST)
    time.sleep(40)
    lines = sum(1 for _ in pager.stdout)
    if pager.wait() != 0:
        sys.exit(f"the listing in the pager was cut after {lines} lines")


def killed():
    for turn in range(30):
        client = listing()
        for _ in range(turn * 1000):
            client.stdout.readline()
        client.send_signal(signal.SIGKILL)
        client.wait()
        client.stdout.close()


def bodies():
    head = b"POST /v1/commands HTTP/1.1\r\nHost: x\r\n"
    mib = b" " * (1 << 20)
    for _ in range(10):
        sock = connect()
        send(sock, head + b"Content-Length: 104857600\r\n\r\n") and any(not send(sock, mib) for _ in range(100))
        sock = connect()
        chunk = b"100000\r\n" + mib + b"\r\n"
        send(sock, head + b"Transfer-Encoding: chunked\r\n\r\n") and any(not send(sock, chunk) for _ in range(100))


def garbage():
    chance = random.Random(1)
    for _ in range(2000):
        sock = connect()
        send(sock, chance.randbytes(chance.randrange(1, 5000)))


def crowd():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socks = [connect() for _ in range(10_000)]
    for sock in socks[-100:]:
        send(sock, LIST)


harms = {f.__name__: f for f in (stalled, killed, bodies, garbage, crowd)}
harms[kind]()
