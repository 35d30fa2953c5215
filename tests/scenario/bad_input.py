#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Whatever comes in wrong has one clear message and loses nothing: bad messages, bad config, a store of another
# version, a damaged one, a full disk, two owners, a taken port, a broker that is away. argv[1]: the binary.
import base64
import fcntl
import glob
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet, free_port, wait_until  # noqa: E402

CORPUS = os.path.join(HERE, "..", "corpus")
QUIET = ["--set", "update.enabled=false"]
STATE = "counters", "sequences", "joiner", "samples", "profiles"


def digests(freshet, state):
    r = freshet.run("digest", "--state", state)
    return json.loads(r.stdout) if r.returncode == 0 else {"error": r.stderr}


def of_state(digest):
    return {k: digest.get(k) for k in STATE}


def one_message(freshet, r, words, text, code=1):
    """Ends with the code and one line on stderr that has every word."""
    lines = [line for line in r.stderr.splitlines() if "level=info" not in line and line.strip()]
    good = r.returncode == code and len(lines) == 1 and all(w in lines[0] for w in words)
    freshet.check(good, text if good else f"{text}: exit {r.returncode}, stderr {r.stderr[-500:]!r}")


# ---- messages ----------------------------------------------------------------------------------------

def dlq_rows(dir):
    return [json.loads(line) for f in sorted(glob.glob(os.path.join(dir, "*.jsonl"))) for line in open(f)]


def original(row):
    """The bytes of a DLQ row: text, or base64 where they are no UTF-8."""
    for key in "value_base64", "value_b64":
        if key in row:
            return base64.b64decode(row[key])
    return None if row["value"] is None else row["value"].encode()


def corpus(freshet, lines):
    clean = freshet.path("clean")
    r = freshet.run("replay", "--events", "-", "--flush", "--state", clean, *QUIET, input="\n".join(lines) + "\n")
    freshet.equal(r.returncode, 0, "a log without bad messages")
    wanted = of_state(digests(freshet, clean))
    bad = []
    for path in sorted(glob.glob(os.path.join(CORPUS, "*.json"))):
        name = os.path.basename(path)
        with open(path, "rb") as f:
            value = f.read()
        # A line of a file ends at its newline, and an empty one is no message.
        if not name.startswith("good-") and b"\n" not in value.rstrip(b"\n") and value.strip():
            bad.append((name, value.rstrip(b"\n")))
    mixed = freshet.path("mixed.jsonl")
    with open(mixed, "wb") as f:
        for n, line in enumerate(lines):
            if n % 10 == 5 and n // 10 < len(bad):
                f.write(bad[n // 10][1] + b"\n")
            f.write(line.encode() + b"\n")
    state, dlq = freshet.path("mixed"), freshet.path("dlq")
    r = freshet.run("replay", "--events", mixed, "--flush", "--state", state, "--dlq", dlq, *QUIET)
    if not freshet.equal(r.returncode, 0, f"a log with {len(bad)} bad messages"):
        print(r.stderr)
        return
    freshet.equal(of_state(digests(freshet, state)), wanted, "bad messages leave no trace in the state")
    rows = dlq_rows(dlq)
    freshet.equal(len(rows), len(bad), "one DLQ row for each")
    reasons = {}
    for (name, value), row in zip(bad, rows):
        reason, h = name.split("-")[0], row["headers"]
        reasons[reason] = reasons.get(reason, 0) + 1
        got = (h["__connect.errors.exception.class.name"], h["__connect.errors.topic"], h["__connect.errors.partition"],
               original(row))
        if got != (f"freshet.{reason}", "events", "0", value):
            freshet.check(False, f"{name}: {got!r}"[:400])
        elif not h["__connect.errors.exception.message"] or not h["__connect.errors.offset"].isdigit():
            freshet.check(False, f"{name}: a message and an offset: {h}")
    freshet.equal(json.loads(r.stdout)["dlq"], reasons, "the summary counts them by reason")


def cut(freshet):
    """Of what no broker takes in one message the beginning comes, and how long it was."""
    most = 900 << 10
    lines = [f"{n}" + "x" * (n - 7) + "\xe9" for n in (most, most + 1, 1 << 20, 3 << 20)]
    with open(freshet.path("long.jsonl"), "w", encoding="latin-1") as f:
        f.write("".join(line + "\n" for line in lines))
    lengths = [len(line) for line in lines]
    r = freshet.run("replay", "--events", freshet.path("long.jsonl"), "--state", freshet.path("long"),
                    "--dlq", freshet.path("long-dlq"), *QUIET)
    rows = dlq_rows(freshet.path("long-dlq"))
    freshet.equal((r.returncode, len(rows)), (0, len(lines)), "long messages are dead letters " + r.stderr)
    kept = [most, most, 64 << 10, 64 << 10]  # over 1 MiB a line is not read whole
    freshet.check([original(row) for row in rows] == [line.encode("latin-1")[:n] for line, n in zip(lines, kept)], "with their beginning")
    freshet.equal([row["headers"].get("freshet.cut_from_bytes") for row in rows],
                  [str(n) if n > most else None for n in lengths], "a header says of how many bytes, if there were more")


def as_committed(freshet, lines):
    """A log that is not the one that was recorded is told from it, and a record that has lost its beginning says so."""
    def log(name, lines):
        with open(freshet.path(name), "w") as f:
            f.write("".join(line + "\n" for line in lines))
        return ["--events", freshet.path(name), *QUIET]

    def again(name, lines, *more, state="recorded"):
        return freshet.run("replay", "--as-committed", "--state", freshet.path(state), *log(name, lines), *more)

    small = ["--set", "state.commit_events=300"]
    r = freshet.run("replay", "--state", freshet.path("recorded"), *log("same", lines), *small)
    before = digests(freshet, freshet.path("recorded"))
    freshet.equal((r.returncode, again("same", lines).returncode), (0, 0), "the log that was recorded: equal")
    for what, changed in (("another user", {"user_id": "nobody"}),
                          ("another timestamp", {"timestamp": json.loads(lines[0])["timestamp"] + 60001})):
        event = {**json.loads(lines[1000]), **changed}
        r = again("changed", [*lines[:1000], json.dumps(event), *lines[1001:]])
        one_message(freshet, r, ["differs from the committed one"], f"one line with {what} is told")
        told = json.loads(r.stdout)
        freshet.check(not told["equal"] and told["committed"] != told["replayed"] and told["committed"] == before, "with both digests")
    one_message(freshet, again("cut", lines[:-500]), ["more messages", "events"], "a log that is cut short")
    first = json.loads(lines[0])["timestamp"] - 60000
    early = [json.dumps({"type": "click", "user_id": "early", "item_id": n, "timestamp": first + n}) for n in range(60)]
    r = freshet.run("replay", "--state", freshet.path("early"), *log("begun", early + lines), "--set", "state.commit_events=10")
    freshet.equal((r.returncode, again("begun", early + lines, state="early").returncode), (0, 0),
                  "the record begins with the first commit, also where samples come only later")
    keep = [x for key in ("state.samples_keep=10s", "join.window=5s", "dedupe.window=5s", "update.every=10s") for x in ("--set", key)]
    freshet.run("replay", "--state", freshet.path("forgot"), *log("same", lines), *keep, "--set", "state.commit_events=50")
    one_message(freshet, again("same", lines, *keep, state="forgot"), ["begins at commit", "older than the samples"],
                "a record without its beginning")
    freshet.equal(digests(freshet, freshet.path("recorded")), before, "the recorded state stays as it was")


# ---- config ------------------------------------------------------------------------------------------

def config(freshet):
    for n, (text, words) in enumerate([("join:\n  windw: 10m\n", ["windw", ":2:3"]), ("join:\n  window: tomorrow\n", [":2:11"]),
                                       ("features: {x: {id: planet, table: users}}\n", ["planet", ":1:"]),
                                       ("join: [\n", [":"]), ("update: {every: 1ms}\n", [":1:17"])]):
        path = freshet.path(f"bad-{n}.yaml")
        with open(path, "w") as f:
            f.write(text)
        for command in ("check",), ("replay", "--events", "/dev/null", "--state", freshet.path("no")), ("run",):
            one_message(freshet, freshet.run(command[0], "-c", path, *command[1:]), [path, *words],
                        f"config mistake {n} in {command[0]}", 78)
    freshet.check(not os.path.exists(freshet.path("no")), "nothing was made")
    r = freshet.run("replay", "--events", "/dev/null", "--set", "join.window=never")
    one_message(freshet, r, ["join.window"], "--set of nonsense", 78)
    one_message(freshet, freshet.run("replay", "--events", freshet.path("absent.jsonl")), ["absent.jsonl"], "no such file")


# ---- the store ---------------------------------------------------------------------------------------

def damaged(freshet, whole):
    """Flips bytes in the middle of one table file after another."""
    files = sorted(glob.glob(os.path.join(whole, "**", "*.sst"), recursive=True), key=os.path.getsize)
    wanted = digests(freshet, whole)
    for file in files[-2:]:
        broken = freshet.path("damaged")
        shutil.copytree(whole, broken)
        path = os.path.join(broken, os.path.relpath(file, whole))
        with open(path, "r+b") as f:
            f.seek(os.path.getsize(path) // 2)
            bytes = f.read(16)
            f.seek(-len(bytes), 1)
            f.write(b"".join(b"%c" % (b ^ 0xff) for b in bytes))
        r = freshet.run("digest", "--state", broken)
        one_message(freshet, r, [os.path.basename(path).lstrip("0")], "digest of a damaged store names the file")
        r = freshet.run("replay", "--events", "/dev/null", "--state", broken, *QUIET)
        freshet.check(r.returncode == 0 or "orrupt" in r.stderr or "damage" in r.stderr, "replay into a damaged store: " + r.stderr[-200:])
        shutil.rmtree(broken)
    freshet.equal(digests(freshet, whole), wanted, "the copy's damage is not the original's")


def truncated(freshet, whole):
    broken = freshet.path("lost")
    shutil.copytree(whole, broken)
    file = max(glob.glob(os.path.join(broken, "**", "*.sst"), recursive=True), key=os.path.getsize)
    os.remove(file)
    r = freshet.run("digest", "--state", broken)
    number = os.path.basename(file).split(".")[0]
    freshet.check(r.returncode == 1 and number in r.stderr, "a file that is gone is named by its number: " + r.stderr[-300:].strip())


def owners(freshet):
    whole, fifo = freshet.path("owned"), freshet.path("fifo")
    os.mkfifo(fifo)
    p = freshet.start("owner", "replay", "--events", fifo, "--state", whole, *QUIET)
    pipe = open(fifo, "w")  # returns when the reader has opened it
    pipe.write("\n")
    pipe.flush()
    wait_until(lambda: locked(whole), 20, "the owner's lock")
    r = freshet.run("replay", "--events", "/dev/null", "--state", whole, *QUIET)
    one_message(freshet, r, [whole], "a second process on the same state")
    pipe.close()
    freshet.equal(p.wait(), 0, "the first one is not disturbed")


def locked(state):
    """Whether another process holds the lock of the store; asks and takes nothing."""
    try:
        with open(os.path.join(state, "LOCK"), "r+") as f:
            ask = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
            return struct.unpack("hhqqi4x", fcntl.fcntl(f, fcntl.F_GETLK, ask))[0] != fcntl.F_UNLCK
    except FileNotFoundError:
        return False


def full_disk(freshet, lines):
    small = freshet.path("small")
    os.mkdir(small)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small], capture_output=True).returncode:
        print("skip  full disk: needs root and a tmpfs")
        return
    try:
        log = freshet.path("full.jsonl")
        with open(log, "w") as f:
            f.write("\n".join(lines) + "\n")
        state = os.path.join(small, "state")
        more = ["--set", "state.commit_events=500", *QUIET]
        p = freshet.start("full", "replay", "--events", log, "--flush", "--state", state, *more)
        try:
            wait_until(lambda: not p.alive() or "space" in p.stderr(), 10, "a word on the full disk")
        except TimeoutError:
            pass
        freshet.check("space" in p.stderr(), "the full disk is reported: " + p.stderr()[-300:])
        subprocess.run(["mount", "-o", "remount,size=400m", small], check=True)
        if p.alive():
            freshet.equal(p.wait(120), 0, "it goes on when there is space")
        else:
            freshet.check(freshet.run("replay", "--events", log, "--flush", "--state", state, *more).returncode == 0,
                          "the next run goes on when there is space")
        other = freshet.path("enough")
        freshet.run("replay", "--events", log, "--flush", "--state", other, *more)
        freshet.equal(of_state(digests(freshet, state)), of_state(digests(freshet, other)), "nothing was lost on the full disk")
    finally:
        for p in freshet.processes:
            p.kill()
            p.wait()
        subprocess.run(["umount", "-l", small])


# ---- the daemon --------------------------------------------------------------------------------------

def port_taken(freshet):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        r = freshet.run("run", "--state", freshet.path("port"), "--set", f"http.listen=127.0.0.1:{port}", timeout=30)
        one_message(freshet, r, [str(port)], "a port in use")


def relay(listener, address):
    """Hands every connection on to the broker, so that it can come up at an address known before."""
    def pump(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        b.close()

    def accept():
        while True:
            a = listener.accept()[0]
            b = socket.create_connection(address)
            for pair in (a, b), (b, a):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def broker_away(freshet):
    port = free_port()
    freshet.broker = f"127.0.0.1:{port}"
    d = freshet.start_daemon(state="away")
    freshet.check(freshet.get("/readyz").status == 503, "without a broker: alive and not ready")
    freshet.start_broker()
    listener = socket.create_server(("127.0.0.1", port))
    host, _, number = freshet.broker.rpartition(":")
    relay(listener, (host, int(number)))
    freshet.simulate("--events", "200")
    wait_until(lambda: offsets(freshet, "away"), 60, "a commit")
    freshet.check("kafka" not in freshet.get("/readyz").text, "it goes on when the broker comes")
    freshet.equal(d.stop(), 0, "and ends at SIGTERM")
    d = freshet.start_daemon(*QUIET, state="away")
    freshet.wait_ready()
    freshet.check(True, "with updates switched off it is ready without a model")
    d.stop()
    freshet.check(sum(map(int, offsets(freshet, "away").values())) > 0, "with the events read")


def offsets(freshet, state):
    return digests(freshet, freshet.path(state)).get("offsets", {}).get("events", {})


def main():
    f = Freshet()
    lines = f.run("simulate", "--events", "4000", "--seed", "5").stdout.splitlines()
    corpus(f, lines)
    cut(f)
    as_committed(f, lines)
    config(f)
    damaged(f, f.path("clean"))
    truncated(f, f.path("clean"))
    owners(f)
    full_disk(f, lines * 1 + f.run("simulate", "--events", "30000", "--seed", "6", "--start", "2026-02-01T00:00:00Z").stdout.splitlines())
    port_taken(f)
    try:
        broker_away(f)
    except (TimeoutError, RuntimeError, OSError) as e:
        f.check(False, f"a broker that is away: {e}")
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
