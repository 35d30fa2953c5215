# SPDX-License-Identifier: Apache-2.0
# What scenario scripts share: a broker, daemons and the CLI in a temporary directory, all gone at the end,
# however it comes. A script takes the path of the freshet binary as argv[1] and ends with
# sys.exit(freshet.summary()).
import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time


def wait_until(predicate, seconds, what, every=0.02):
    """Polls until predicate() is true and returns its value; what was waited for fails the script."""
    deadline = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds} s")
        time.sleep(every)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Answer:
    """What HTTP answered: status, headers (lower case), body in bytes."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


class Process:
    """A freshet process whose stdout and stderr go to files."""

    def __init__(self, name, argv, dir, env=None):
        self.name, self.argv = name, argv
        self.out, self.err = (os.path.join(dir, f"{name}.{s}") for s in ("out", "err"))
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.popen = subprocess.Popen(argv, stdout=out, stderr=err, env=env, stdin=subprocess.DEVNULL)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def stderr(self):
        with open(self.err, errors="replace") as f:
            return f.read()

    def stdout(self):
        with open(self.out, errors="replace") as f:
            return f.read()

    def kill(self, number=signal.SIGKILL):
        if self.alive():
            self.popen.send_signal(number)

    def wait(self, seconds=30):
        return self.popen.wait(seconds)

    def stop(self, seconds=30):
        """SIGTERM; the exit code."""
        self.kill(signal.SIGTERM)
        return self.wait(seconds)


class Freshet:
    def __init__(self, binary=None):
        self.binary = os.path.abspath(binary or sys.argv[1])
        self.dir = tempfile.mkdtemp(prefix="freshet-scenario-")
        self.processes = []
        self.broker = None  # its address
        self.port = None  # HTTP of the daemon started last
        self.sent = 0  # messages that simulate() gave the broker
        self.passed = self.failed = self.started = 0
        atexit.register(self.close)

    def close(self):
        for p in self.processes:
            p.kill()
            p.wait()
        if os.environ.get("FRESHET_KEEP"):
            print("kept:", self.dir)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    # ---- counting

    def check(self, condition, text):
        if condition:
            self.passed += 1
        else:
            self.failed += 1
        print(("ok    " if condition else "FAIL  ") + text, flush=True)
        return bool(condition)

    def equal(self, got, wanted, text):
        return self.check(got == wanted, text if got == wanted else f"{text}: got {got!r}, wanted {wanted!r}")

    def summary(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1

    # ---- processes

    def broker_options(self):
        return ["-X", f"bootstrap.servers={self.broker}"] if self.broker else []

    def run(self, *args, input=None, timeout=120, env=None):
        """The CLI to its end: a CompletedProcess with text. Options of the broker are added."""
        argv = [self.binary, args[0], *self.broker_options(), *args[1:]]
        return subprocess.run(argv, input=input, timeout=timeout, text=True, capture_output=True,
                              env={**os.environ, **(env or {})})

    def start(self, name, *args, env=None):
        self.started += 1
        argv = [self.binary, args[0], *self.broker_options(), *args[1:]]
        process = Process(f"{self.started}-{name}", argv, self.dir, {**os.environ, **(env or {})})
        self.processes.append(process)
        return process

    def start_broker(self, *args):
        """An embedded broker; later processes use it."""
        file = self.path(f"broker-{self.started}.address")
        process = self.start("broker", "broker", "--address-file", file, *args)

        def address():
            if not process.alive():
                raise RuntimeError("the broker ended: " + process.stderr())
            if os.path.exists(file):
                with open(file) as f:
                    text = f.read()
                return text.strip() if text.endswith("\n") else None
            return None

        self.broker = wait_until(address, 20, "the broker's address")
        return process

    def start_daemon(self, *args, state="state", port=None, wait=True, env=None):
        """`freshet run`; with wait, until it answers /healthz. Its port is self.port."""
        self.port = port or free_port()
        process = self.start("run", "run", "--state", self.path(state), "--set",
                             f"http.listen=127.0.0.1:{self.port}", *args, env=env)
        if wait:
            wait_until(lambda: self.answers(process), 30, "the daemon's HTTP")
        return process

    def answers(self, process):
        if not process.alive():
            raise RuntimeError("the daemon ended: " + process.stderr())
        try:
            return self.get("/healthz").status == 200
        except OSError:
            return False

    def simulate(self, *args, timeout=120):
        """Events into the broker; their number is added to self.sent."""
        r = self.run("simulate", "--kafka", *args, timeout=timeout)
        told = re.search(r"(\d+) messages", r.stderr)
        self.sent += int(told[1]) if told else 0
        return r

    # ---- HTTP

    def http(self, method, path, body=None, headers=None, port=None, timeout=10):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path, headers=None, **more):
        return self.http("GET", path, None, headers, **more)

    def post(self, path, body=b"", headers=None, **more):
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        return self.http("POST", path, body, {"Content-Type": "application/json", **(headers or {})}, **more)

    def status(self):
        return self.get("/v1/status").json

    def settled(self):
        """All that simulate() sent is read (a lag of 0 is only as of the last fetch), no update window waits for
        training, and what was published has been delivered."""
        s = self.status()
        return (sum(s["offsets"].get("events", {}).values()) >= self.sent and s["lag"] == 0 and not s["training"]
                and s["updates_waiting"] == 0 and s["publish"]["waiting"] == 0)

    def wait_settled(self, seconds=120):
        wait_until(self.settled, seconds, "the end of the log, of training and of publishing")

    def wait_ready(self, seconds=60):
        wait_until(lambda: self.get("/readyz").status == 200, seconds, "readiness")
