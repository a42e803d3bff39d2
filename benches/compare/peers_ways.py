"""The ways from client to server that are compared, and how each is started and ended on the director.

A way is an address that the client asks and something on the director that makes it lead to the server. Must not know
what is asked.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from . import machine, proc

VIP, VIP_DR, RIP, PORT = "10.80.0.100", "10.80.0.101", "10.81.0.2", 80
# The server's address that no way but direct routing leads to: what comes from a NAT server of xvs, xvs takes.
DIRECT = "10.81.0.3"
READY_S = 20

NFT = f"""table ip xvsbench {{
    chain prerouting {{
        type nat hook prerouting priority dstnat
        ip daddr {VIP} tcp dport {PORT} dnat to {RIP}:{PORT}
    }}
}}
"""

HAPROXY = """global
    maxconn 8000
    nbthread {threads}
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen bench
    bind {vip}:{port} backlog 65535
    server one {rip}:{port}
"""

NGINX = """daemon off;
master_process on;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes {threads};
worker_rlimit_nofile 65536;
pid {dir}/stream.pid;
error_log {dir}/stream.log;
events {{ worker_connections 16384; }}
stream {{
    server {{
        listen {vip}:{port} backlog=65535 reuseport;
        proxy_pass {rip}:{port};
    }}
}}
"""

# Of how xvs idles, other than the default: the settings that README.md tells of.
SETTINGS = {"power": "idle_spin_us = 0", "latency": "busy_poll = true"}

XVS = """[director]
interfaces = ["in0", "in1"]
cores = {cores}
{offload}
{setting}
[api]
socket = "{dir}/xvs.sock"

[[service]]
protocol = "tcp"
address = "{vip}:{port}"
scheduler = "wlc"
forward = "{mode}"
[[service.server]]
address = "{rip}"
"""


class Way:
    """One way. `director` is the words that run a command on the director, `cores` where it may run."""

    def __init__(self, name, address, director, cores, directory):
        self.name, self.address = name, address
        self._director, self._cores, self._dir = director, cores, directory
        self._process = self._log = None

    def __enter__(self):
        kind, _, rest = self.name.partition("-")
        getattr(self, f"_start_{kind}")(*rest.split("-") if rest else ())
        return self

    def __exit__(self, *_):
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(READY_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self.name == "nft":
            subprocess.run([*self._director, "nft", "delete", "table", "ip", "xvsbench"], check=True)

    def run_ns(self):
        """Nanoseconds that the way's own processes have run."""
        pids = machine.below(machine.processes(), self._process.pid) if self._process else []
        return proc.run_ns(tid for pid in pids for tid in proc.threads(pid))

    def _run(self, *command):
        self._log = Path(self._dir, f"{self.name}.log")
        cores = ",".join(map(str, self._cores))
        with open(self._log, "w") as log:
            self._process = subprocess.Popen([*self._director, "taskset", "-c", cores, *command],
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _file(self, name, text):
        path = Path(self._dir, name)
        path.write_text(text)
        return str(path)

    def _ready(self, is_ready):
        until = time.monotonic() + READY_S
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} did not start:\n{self._log.read_text()}")
            time.sleep(0.05)

    def _is_listening(self):
        said = subprocess.run([*self._director, "ss", "-Hltn", f"sport = :{PORT}"], capture_output=True, text=True)
        return VIP in said.stdout

    # ---- one method a kind

    def _start_direct(self):
        pass

    def _start_nft(self):
        subprocess.run([*self._director, "nft", "-f", self._file("nft.conf", NFT)], check=True)

    def _start_haproxy(self):
        text = HAPROXY.format(threads=len(self._cores), vip=VIP, rip=RIP, port=PORT)
        self._run("haproxy", "-db", "-f", self._file("haproxy.cfg", text))
        self._ready(self._is_listening)

    def _start_nginx(self):
        text = NGINX.format(threads=len(self._cores), vip=VIP, rip=RIP, port=PORT, dir=self._dir)
        self._run("nginx", "-e", f"{self._dir}/stream.log", "-p", self._dir, "-c", self._file("stream.conf", text))
        self._ready(self._is_listening)

    def _start_xvs(self, mode, *words):
        binary = os.environ["XVS"]
        self._run(binary, "run", "--config", self._file("xvs.toml", xvs_config(mode, words, self._cores, self._dir)))
        self._ready(lambda: " ready" in self._log.read_text())


def xvs_config(mode, words, cores, directory):
    """`words` may be `on` or `off`, for the offload, and one of SETTINGS."""
    offload = next((f'offload = "{word}"' for word in words if word not in SETTINGS), "")
    setting = next((SETTINGS[word] for word in words if word in SETTINGS), "")
    return XVS.format(cores=list(cores), offload=offload, setting=setting, dir=directory,
                      vip=VIP_DR if mode == "dr" else VIP, port=PORT, mode=mode, rip=RIP)


def names(binary):
    """All ways; xvs with and without offload if this binary knows it."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "xvs.toml")
        file.write_text(xvs_config("nat", ["off"], [0], directory))
        known = subprocess.run([binary, "check", "--config", str(file)], capture_output=True).returncode == 0
    if not known:
        print("this xvs knows no `offload`: it is measured as it is", flush=True)
    flavours = ["-off", "-on"] if known else [""]
    return ["direct", "nft", "haproxy", "nginx"] + [f"xvs-{mode}{f}" for mode in ("nat", "dr") for f in flavours]


def address(name):
    """What the client asks to go this way."""
    if name == "direct":
        return DIRECT
    return VIP_DR if name.startswith("xvs-dr") else VIP
