"""The kernel's packet generator, as Documentation/networking/pktgen.rst has it: one device on one thread.

pktgen counts source address and source port up together, one of each a packet, and each starts again by itself: as
many different pairs come as the least common multiple of addresses and ports. So both are chosen without a common
factor, and their product is the number of flows.
"""

import math
import subprocess
from pathlib import Path

FIRST_PORT = 10_000
MAX_PORTS = 50_000
MAX_ADDRESSES = 65_536


def addresses_and_ports(flows):
    """Two numbers without a common factor whose product is `flows`, with as few addresses as the ports allow."""
    for addresses in range(1, min(flows, MAX_ADDRESSES) + 1):
        ports = flows // addresses
        if flows % addresses == 0 and ports <= MAX_PORTS and math.gcd(addresses, ports) == 1:
            return addresses, ports
    raise ValueError(f"{flows} flows are not a product of at most {MAX_ADDRESSES} addresses and {MAX_PORTS} ports "
                     "without a common factor: take a power of ten, up to a million")


def commands(*, flows, frame_len, first_address, destination, port, destination_mac, count=0):
    """What pktgen is told about the device. `frame_len` is in bytes, with FCS, as wires count; `count` 0: no end."""
    addresses, ports = addresses_and_ports(flows)
    last_address = str(first_address + (addresses - 1))
    # The last port is left out by pktgen, the last address is not; equal bounds mean one.
    last_port = FIRST_PORT + ports if ports > 1 else FIRST_PORT
    return [
        f"count {count}", "clone_skb 0", "delay 0", f"pkt_size {frame_len - 4}", "flag UDPCSUM",
        f"src_min {first_address}", f"src_max {last_address}",
        f"udp_src_min {FIRST_PORT}", f"udp_src_max {last_port}",
        f"dst {destination}", f"udp_dst_min {port}", f"udp_dst_max {port}", f"dst_mac {destination_mac}",
    ]


class Pktgen:
    """One device in one namespace. `proc_net` is the /proc/PID/net of a process that lives there, `inside` the words
    that run a command there: who starts pktgen must be in the namespace itself."""

    def __init__(self, proc_net, inside, device, cpu):
        self._dir, self._inside, self._device, self._cpu = Path(proc_net) / "pktgen", inside, device, cpu
        self._running = None

    def _tell(self, file, command):
        try:
            (self._dir / file).write_text(command + "\n")
        except OSError as error:
            raise RuntimeError(f"pktgen refused `{command}` for {file}: {error.strerror}") from error

    def prepare(self, lines):
        thread = f"kpktgend_{self._cpu}"
        self._tell(thread, "rem_device_all")
        self._tell(thread, f"add_device {self._device}")
        try:
            # Packets are handed over whole, as by any sender, and not kept for another transmission.
            self._tell(self._device, "flag !SHARED")
        except RuntimeError:
            pass  # a kernel before 6.7 has no such flag
        for line in lines:
            self._tell(self._device, line)

    def start(self):
        """Starts sending. The command that says so ends with the run; a signal to it ends the run."""
        self._running = subprocess.Popen([*self._inside, "sh", "-c", "echo start >/proc/net/pktgen/pgctrl"])

    def wait(self, seconds):
        """Waits for the end of a counted run; whether it came."""
        try:
            self._running.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self):
        self._running.terminate()
        self._running.wait(10)

    def report(self):
        """What pktgen says of the device: parameters, counts, result."""
        return (self._dir / self._device).read_text()
