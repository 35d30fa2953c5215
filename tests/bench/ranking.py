# SPDX-License-Identifier: Apache-2.0
# Scoring the candidates of one request over HTTP, whole way: features read from the state, the net, the answer. A table
# of milliseconds a request, and of CPU that the daemon takes of it, by preset: median and least.
#
#   ranking.py FRESHET [CANDIDATES]
import http.client
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenario"))
from harness import Freshet  # noqa: E402

CALLS = 150
MODELS = {"three_tower": {"preset": "three_tower"},
          "two_stage, keep 100": {"preset": "two_stage", "rank": {"keep": 100}},
          "mlp": {"preset": "mlp"},
          "din over 50": {"preset": "din"}}
BASE = {"tables": {"users": {}, "items": {}},
        "stream": {"time": {"idle_after": "1s"}},
        "update": {"every": "5m", "bootstrap": {"samples": 8000}}}


def cpu_ms(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def measure(f, name, candidates):
    config = f.path(name.replace(" ", "_") + ".json")
    with open(config, "w") as to:
        json.dump(BASE | {"models": {"m": MODELS[name]}}, to)
    daemon = f.start_daemon("-c", config, state=name.replace(" ", "_"))
    f.wait_ready()
    f.wait_settled()
    body = json.dumps({"user_id": "u7", "items": [f"i{i}" for i in range(1, candidates + 1)]})
    connection = http.client.HTTPConnection("127.0.0.1", f.port)
    took, before = [], 0
    for k in range(CALLS + 10):
        before = cpu_ms(daemon.pid) if k == 10 else before
        began = time.perf_counter()
        connection.request("POST", "/v1/score", body)
        answer = connection.getresponse()
        text = answer.read()
        took.append(1e3 * (time.perf_counter() - began))
        assert answer.status == 200 and len(json.loads(text)["scores"]) == candidates
    cpu = (cpu_ms(daemon.pid) - before) / CALLS
    print(f"{name:22}  {statistics.median(took[10:]):7.3f}  {min(took[10:]):7.3f}  {cpu:7.3f}", flush=True)
    connection.close()
    daemon.stop()


def main():
    candidates = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    f = Freshet(sys.argv[1])
    f.start_broker()
    f.simulate("--events", "40000", "--users", "200", "--items", "500", "--rate", "10")
    print(f"POST /v1/score of {candidates} candidates, ms\n{'':22}  {'median':>7}  {'least':>7}  {'CPU':>7}")
    for name in MODELS:
        measure(f, name, candidates)
    return 0


if __name__ == "__main__":
    sys.exit(main())
