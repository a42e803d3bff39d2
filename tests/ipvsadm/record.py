#!/usr/bin/env python3
"""Records tests/ipvsadm again: what ipvsadm 1.31 says to each command line of each file.

    record.py OUT     reads *.txt beside this script, writes the same files into the directory OUT

Run it as root where the kernel has IPVS, in a throwaway guest: it clears the kernel's table, and it changes /etc/hosts
and /etc/resolv.conf. In a file `> ` begins a command line and `< ` is its input, a backslash at the end of which stands
for no end of line; `  ` is its output, `! ` what it complained of, `exit ` its exit status. To record more, add lines
of the first two kinds.

The order of services must not depend on the one the kernel has them in, which is random: ipvsadm looks only at the sign
of the 32-bit difference of two addresses, so all of those listed together have to lie within half of that circle.
"""
import pathlib
import shlex
import subprocess
import sys

HOSTS = """10.0.0.200 web.example.org www
10.0.0.201 a-rather-long-name.for-a-host.example.org
10.0.0.202 six.example.org
2001:db8::200 six.example.org
"""


def marked(mark, text):
    """The lines of a text with this mark; a backslash if the last one has no end."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    else:
        lines[-1] += "\\"
    return [mark + line for line in lines]


def record(lines):
    """The lines of a file, with what is said to them now."""
    subprocess.run(["ipvsadm", "-C"], check=True)
    subprocess.run(["ipvsadm", "--set", "900", "120", "300"], check=True)
    out = [line for line in lines if line.startswith("#")]
    steps = []
    for line in lines:
        if line.startswith("> "):
            steps.append([line])
        elif line.startswith("<"):
            steps[-1].append(line)
    for command, *given in steps:
        given_text = "".join(text[2:-1] if text.endswith("\\") else text[2:] + "\n" for text in given)
        done = subprocess.run(shlex.split(command[2:]), input=given_text, capture_output=True, text=True)
        out += [command, *given, *marked("  ", done.stdout), *marked("! ", done.stderr)]
        if done.returncode:
            out.append(f"exit {done.returncode}")
    return out


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open("/etc/hosts", "a") as hosts:
        hosts.write(HOSTS)
    open("/etc/resolv.conf", "w").close()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.txt")):
        recorded = record(path.read_text().split("\n"))
        pathlib.Path(sys.argv[1], path.name).write_text("\n".join(recorded) + "\n")
        print(path.name, flush=True)


main()
