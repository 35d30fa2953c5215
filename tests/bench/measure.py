# SPDX-License-Identifier: Apache-2.0
"""What benchmarks that run a daemon ask of it: its CPU and memory, its metrics, when it answers, when it has caught up."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenario"))
from harness import wait_until  # noqa: E402


def count(text):
    """1000000 or 1M."""
    return int(float(text.rstrip("kMG")) * {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1))


def cpu_seconds(pid):
    """User and system time of all threads so far."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    """Bytes."""
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def metrics(f):
    values = {}
    for line in f.get("/metrics").text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    return values


def _asked(f, daemon, ask):
    if not daemon.alive():
        sys.exit("the daemon ended: " + daemon.stderr())
    try:
        return ask(f)
    except OSError:
        return False


def caught_up(f, daemon, events, seconds):
    """Waits until so many messages were read, and there are no more."""
    def ask(f):
        m = metrics(f)
        return m.get("freshet_messages_total", 0) >= events and m.get("freshet_caught_up") == 1
    wait_until(lambda: _asked(f, daemon, ask), seconds, "the end of the log", 0.1)  # asking is CPU that is measured


def since(begin, f, daemon, path):
    """Seconds from `begin` to the first 200 of path."""
    wait_until(lambda: _asked(f, daemon, lambda f: f.get(path).status == 200), 120, path)
    return time.monotonic() - begin
