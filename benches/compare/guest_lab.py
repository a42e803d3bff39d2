"""Client, director and server in the guest: three namespaces, two veth pairs, one director at a time.

    client: out0 ──── in0 :director: in1 ──── out1 :server

A veth hands packets over on the sender's processor, so that a director in the kernel would hide in the sender's
time. Here the packets of every interface are taken in by a kernel thread of their own instead (threaded NAPI), and
those of the director's two interfaces are pinned to the director's processor, where the worker of xvs runs too:
all that a director does is then the time of threads that are its own, for IPVS as for xvs. The worker goes before the
threads of the interfaces, which would otherwise take in more than it can forward. A process of the lowest class keeps
that processor awake meanwhile, since an emulated one that sleeps is slow to wake.

The guest is thrown away afterwards: nothing is cleaned up but what the next director must not find.
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from . import proc

VIP, RIP, PORT = "10.71.0.100", "10.72.0.2", 80
# An address for each of the interfaces that has one.
CLIENT_NET, DIRECTOR_IN, DIRECTOR_OUT = "10.64.0.0/13", "10.71.0.254/24", "10.72.0.254/24"
MODES = {"nat": "-m", "dr": "-g", "tun": "-i"}
OFFLOADS = "tx off tso off gso off rxvlan off txvlan off gro on"
READY_S = 120
# What the director says.
LOG = Path("/run/director.log")
WORKER_NICE = -10


class Lab:
    """See above; made once for each director."""

    def __init__(self, generator_cpu, sink_cpu, director_cpu):
        self.generator_cpu, self.sink_cpu, self.director_cpu = generator_cpu, sink_cpu, director_cpu
        self._keepers, self._process = {}, None
        self._awake = None if director_cpu == generator_cpu else keep_awake(director_cpu)
        for who in ("client", "director", "server"):
            run(f"ip netns add {who}")
            # It keeps the namespace open, and its /proc/net can be read from here.
            self._keepers[who] = subprocess.Popen(["ip", "netns", "exec", who, "sleep", "infinity"])
        self._cable("client", "out0", "director", "in0")
        self._cable("server", "out1", "director", "in1")
        inside("director", f"""
            for path in all default in0 in1; do echo 0 >/proc/sys/net/ipv4/conf/$path/rp_filter; done
            echo 1 >/proc/sys/net/ipv4/ip_forward
            ip address add {DIRECTOR_IN} dev in0
            ip address add {VIP}/32 dev in0
            ip address add {DIRECTOR_OUT} dev in1
            ip neigh add {RIP} lladdr {mac('server', 'out1')} dev in1 nud permanent
            ip neigh add 10.71.0.1 lladdr {mac('client', 'out0')} dev in0 nud permanent
            ip route add {CLIENT_NET} via 10.71.0.1""")
        # The server counts what arrives and does no more with it: socket buffers so, and frames by XDP (`sink_frames`).
        inside("server", "tc qdisc add dev out1 clsact; tc filter add dev out1 ingress matchall action drop")
        self.director_mac = mac("director", "in0")
        self.client_mac, self.server_mac = mac("client", "out0"), mac("server", "out1")

    def _cable(self, who, device, peer_who, peer):
        run(f"ip link add {device} netns {who} type veth peer name {peer} netns {peer_who}")
        for namespace, end in ((who, device), (peer_who, peer)):
            inside(namespace, f"""
                echo 1 >/proc/sys/net/ipv6/conf/{end}/disable_ipv6
                ethtool -K {end} {OFFLOADS}
                ip link set {end} up""")
            inside(namespace, f"echo 1 >/sys/class/net/{end}/threaded")

    # ---- the director

    def start_ipvs(self, mode, flavour):
        """IPVS in this namespace, with a TCP and a UDP service."""
        assert flavour is None
        flag = MODES[mode]
        inside("director", "\n".join(
            f"ipvsadm -A -{p} {VIP}:{PORT} -s rr; ipvsadm -a -{p} {VIP}:{PORT} -r {RIP}:{PORT} {flag}" for p in "tu"))
        self._pin()

    def start_xvs(self, mode, flavour, binary):
        """xvs with the same services. `flavour` is its `offload`, None if the binary knows no such key."""
        Path("/run/xvs.toml").write_text(config(mode, flavour, self.director_cpu))
        self._start([binary, "run", "--config", "/run/xvs.toml"])

    def start_bare(self, where, binary):
        """The least that a director costs: `xdp` only redirects, `xsk` only moves frames from ring to ring."""
        how = {"xdp": ["--in-driver"], "xsk": ["--cores", str(self.director_cpu)]}[where]
        self._start([binary, *how, "--first-mac", self.client_mac, "--second-mac", self.server_mac, "in0", "in1"])

    def _start(self, command):
        with LOG.open("w") as log:
            self._process = subprocess.Popen(["ip", "netns", "exec", "director", *command], stdout=log, stderr=log)
        until = time.monotonic() + READY_S
        while not re.search(r"\bready\b", LOG.read_text()):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the director did not become ready:\n" + LOG.read_text())
            time.sleep(0.1)
        self._pin()

    def _pin(self):
        for prefix, cpu in (("napi/in", self.director_cpu), ("napi/out", self.sink_cpu)):
            pids = proc.kernel_threads(prefix)
            if len(pids) < 2 and prefix == "napi/in":
                raise RuntimeError("the director's interfaces have no threads of their own: is threaded NAPI there?")
            for pid in pids:
                os.sched_setaffinity(pid, {cpu})
                if self.generator_cpu == self.director_cpu:
                    # On one processor they wait until the generator's turn is over: packets come in full batches, as
                    # they do under load, and not each with a wake-up of its own.
                    os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
                elif prefix == "napi/out":
                    # It shares a processor with the generator, and must not lose what the director has forwarded.
                    os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))

        for tid in self._workers():
            os.setpriority(os.PRIO_PROCESS, tid, WORKER_NICE)

    def _workers(self):
        """The thread of xvs that forwards: it is called after its queue."""
        pid = self._process.pid if self._process else None
        return [tid for tid in proc.threads(pid) if Path(f"/proc/{pid}/task/{tid}/comm").read_text() == "xvs-0\n"]

    def director_threads(self):
        """All threads whose time is the director's."""
        return proc.kernel_threads("napi/in") + (proc.threads(self._process.pid) if self._process else [])

    def end(self):
        """Ends director and namespaces; connections end with them."""
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(READY_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for process in filter(None, [*self._keepers.values(), self._awake]):
            process.kill()
            process.wait()
        for who in self._keepers:
            run(f"ip netns delete {who}")
        # The kernel takes its time; the next lab's threads must not be mistaken for these.
        until = time.monotonic() + READY_S
        while proc.kernel_threads("napi/in"):
            if time.monotonic() > until:
                raise RuntimeError("the interfaces of the last director do not go away")
            time.sleep(0.1)

    def sink_frames(self, program=None):
        """Lets this program drop what arrives at the server, which is the least that a driver's frame can cost there; or
        none, as for socket buffers."""
        inside("server", f"ip link set dev out1 xdpdrv {f'obj {program} program drop_all' if program else 'off'}")

    # ---- counters

    def proc_net(self, who):
        return Path(f"/proc/{self._keepers[who].pid}/net")

    def counters(self):
        """Everything that a measurement takes the difference of."""
        client = proc.interface((self.proc_net("client") / "dev").read_text(), "out0")
        server = proc.interface((self.proc_net("server") / "dev").read_text(), "out1")
        director = (self.proc_net("director") / "dev").read_text()
        return {
            "at_ns": time.monotonic_ns(),
            "offered": client["tx"] + client["tx_dropped"],
            "taken": proc.interface(director, "in0")["rx"],
            "received": server["rx"],
            "sink_full": proc.interface(director, "in1")["tx_dropped"],
            "director_ns": proc.run_ns(self.director_threads()),
        }


def keep_awake(cpu):
    """A process that uses what nobody else wants of a processor."""
    def lowest():
        os.sched_setaffinity(0, {cpu})
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    return subprocess.Popen(["sh", "-c", "while :; do :; done"], preexec_fn=lowest)


def config(mode, offload, cpu):
    """xvs with one worker on the director's processor."""
    services = "".join(f"""
[[service]]
protocol = "{protocol}"
address = "{VIP}:{PORT}"
scheduler = "rr"
forward = "{mode}"
[[service.server]]
address = "{RIP}"
""" for protocol in ("tcp", "udp"))
    key = f'offload = "{offload}"\n' if offload else ""
    return f"""[director]
interfaces = ["in0", "in1"]
cores = [{cpu}]
connections = 1_048_576
{key}
[api]
socket = "/run/xvs.sock"
{services}"""


def mac(who, device):
    return inside(who, f"cat /sys/class/net/{device}/address").strip()


def inside(who, script):
    return run(["ip", "netns", "exec", who, "sh", "-ec", script])


def run(command):
    """Runs a command, which must succeed; what it says."""
    arguments = command.split() if isinstance(command, str) else command
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{arguments}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
