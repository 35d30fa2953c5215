# SPDX-License-Identifier: Apache-2.0
# Serving the state: features of a request, in freshet's own shape and in Feast's, beside what GET of the user and the
# items says; taps, with a reader that is too slow and one that goes; top.
import fcntl
import http.server
import json
import math
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

import harness
from harness import wait_until

EPOCH = "1970-01-01T00:00:00Z"


def problem(f, answer, status, words, text):
    f.equal(answer.status, status, text)
    detail = answer.json["detail"]
    f.check(all(w in detail for w in words), f"{text}: {detail}")


def fill(f):
    done = f.simulate("--events", "20000", "--users", "200", "--items", "300", "--rate", "4")
    f.equal(done.returncode, 0, "simulate")
    f.wait_ready()
    f.wait_settled()


def near(a, b):
    return a == b or (isinstance(a, (int, float)) and isinstance(b, (int, float)) and math.isclose(a, b, rel_tol=1e-12))


def wanted(user, item, at):
    """The default config's features, from GET /v1/users and /v1/items."""
    def count(document, action, window):
        return document.get("counters", {}).get(action, {}).get(window, 0)

    def rate(document, window):
        return (count(document, "click", window) + 1) / (count(document, "impression", window) + 20)

    return {"user_id": user.get("user_id"), "item_id": item.get("item_id"), "hour": at // 3600000 % 24,
            "user_impressions_1d": math.log1p(count(user, "impression", "1d")),
            "item_impressions_1d": math.log1p(count(item, "impression", "1d")),
            "user_ctr_7d": rate(user, "7d"), "item_ctr_1h": rate(item, "1h"), "item_ctr_1d": rate(item, "1d"),
            "item_ctr_7d": rate(item, "7d"),
            "clicks": [c["item_id"] for c in user.get("sequences", {}).get("click", [])[:50]]}


def view(f, kind, id, at):
    answer = f.get(f"/v1/{kind}s/{id}?at={at}")
    return answer.json if answer.status == 200 else {f"{kind}_id": id}


def features(f):
    pairs = [(f"u{u}", f"i{i}") for u in (1, 1, 1, 7, 199, 100000) for i in (3, 77, 299, 100000)]
    answer = f.post("/v1/features", {"entities": [{"user_id": u, "item_id": i} for u, i in pairs]})
    f.equal(answer.status, 200, "features of 24 rows")
    a = answer.json
    status = f.status()
    f.equal((a["at"], a["watermark"], a["version"]), (status["at"], status["watermark"], status["version"]),
            "at, watermark and version are the status'")
    f.equal([(r["user_id"], r["item_id"]) for r in a["rows"]], pairs, "rows in the order of the request")
    wrong = []
    for at in (a["at"], a["at"] - 1800000):
        a = f.post("/v1/features", {"at": at, "entities": [{"user_id": u, "item_id": i} for u, i in pairs]}).json
        for row in a["rows"]:
            user, item = view(f, "user", row["user_id"], at), view(f, "item", row["item_id"], at)
            right = wanted(user, item, at)
            got = dict(zip(a["features"], row["values"]))
            wrong += [(row["user_id"], row["item_id"], n, got[n], v) for n, v in right.items() if not near(got[n], v)]
            if row["found"] != {"user": "counters" in user, "item": "counters" in item} or row["at"] != at:
                wrong.append((row, "found, at"))
    f.equal(wrong, [], "each value is what the counters and sequences say, now and half an hour earlier")
    a = f.post("/v1/features", {"features": ["item_ctr_7d", "user_id", "item_ctr_7d"], "entities": [
        {"user_id": 1}, {"item_id": "i3", "at": 1767225600}, {"user_id": "u1", "item_id": "i3", "context": {"x": "y"}}]}).json
    f.equal(a["features"], ["item_ctr_7d", "user_id", "item_ctr_7d"], "features by name, also twice")
    f.equal([r["values"] for r in a["rows"]][0], [None, "1", None], "what is of an item that is not given is null")
    f.equal([a["rows"][1]["at"], a["rows"][1]["values"][1]], [1767225600000, None], "a row as of its own time")


def features_asked_wrongly(f):
    def ask(body, words, text, status=400):
        problem(f, f.post("/v1/features", body), status, words, text)

    one = [{"user_id": "u1", "item_id": "i3"}]
    ask({"features": ["user_ctr_7"], "entities": one}, ['"user_ctr_7"', 'did you mean "user_ctr_7d"'], "a name nearly right")
    ask({"features": [1], "entities": one}, ["features[0]"], "a feature that is no name")
    ask({"features": "user_id", "entities": one}, ["features"], "features that are no list")
    ask({"entities": []}, ["entities"], "no rows")
    ask({}, ["entities"], "no entities")
    ask({"entities": one + [{}]}, ["entities[1]", "user_id", "item_id"], "a row of nobody")
    ask({"entities": one + [{"user_id": 1.5}]}, ["entities[1]", "user_id"], "a fraction for an id")
    ask({"entities": one + ["u1"]}, ["entities[1]", "object"], "a row that is no object")
    ask({"entities": [{"user": "u1"}]}, ["entities[0]", '"user"', "user_id"], "an unknown member of a row")
    ask({"entities": one, "time": 1}, ['"time"', "at"], "an unknown member")
    ask({"entities": one, "at": "noon"}, ["at noon"], "a bad time")
    ask({"entities": one, "at": 1e300}, ["e+300"], "a time that no clock shows")
    ask({"entities": [{"user_id": "u1", "at": "noon"}]}, ["entities[0].at noon"], "a bad time of a row")
    ask({"entities": [{"user_id": "u1", "context": {"a": {}}}]}, ["entities[0]", "context.a"], "a deep context")
    ask({"entities": one * 1001}, ["1000", "1001"], "too many rows")
    ask({"features": ["clicks"] * 1000, "entities": one * 1000}, ["values"], "too many values")
    ask({"features": ["hour"] * 1025, "entities": one}, ["1024"], "too many names")
    ask("{", ["line 1"], "bad JSON")
    ask(b" " * ((1 << 20) + 1), ["1048576"], "a body above http.body", 413)


def feast(f):
    users, items = ["u1", 7, "nobody"], ["i3", "i77", "none"]
    rows = f.post("/v1/features", {"entities": [{"user_id": u, "item_id": i} for u, i in zip(users, items)]}).json
    answer = f.post("/get-online-features", {"features": ["user:user_ctr_7d", "item:item_ctr_1d", "any:hour", "user:clicks"],
                                             "entities": {"item_id": items, "user_id": users}})
    f.equal(answer.status, 200, "get-online-features")
    a = answer.json
    names = a["metadata"]["feature_names"]
    f.equal(names, ["item_id", "user_id", "user_ctr_7d", "item_ctr_1d", "hour", "clicks"], "entities first, then as asked")
    f.check(len(a["results"]) == len(names) and
            all(len(r[k]) == 3 for r in a["results"] for k in ("values", "statuses", "event_timestamps")),
            "a result by name, an entry by row")
    f.equal(a["results"][0], {"values": items, "statuses": ["PRESENT"] * 3, "event_timestamps": [EPOCH] * 3}, "entities")
    f.equal(a["results"][1]["values"], users, "an integer stays one")
    found = {"user_ctr_7d": "user", "item_ctr_1d": "item", "clicks": "user"}
    wrong = []
    for name, result in list(zip(names, a["results"]))[2:]:
        column = rows["features"].index(name)
        for k, row in enumerate(rows["rows"]):
            there = row["found"].get(found.get(name), True)
            right = (row["values"][column], "PRESENT") if there else (None, "NOT_FOUND")
            got = result["values"][k], result["statuses"][k]
            if got != right or (result["event_timestamps"][k] == EPOCH) == there:
                wrong.append((name, k, got, right))
    f.equal(wrong, [], "the same values as POST /v1/features")
    full = f.post("/get-online-features", {"features": ["user:user_id", "freshet:hour"], "full_feature_names": True,
                                           "entities": {"user_id": ["u1"], "device": ["phone"]}}).json
    f.equal(full["metadata"]["feature_names"], ["user_id", "user__user_id", "freshet__hour"], "full names; a context")
    for service in ("freshet", "ctr"):
        a = f.post("/get-online-features", {"feature_service": service, "entities": {"user_id": ["u1"], "item_id": ["i3"]}}).json
        f.equal(sorted(a["metadata"]["feature_names"]), sorted(rows["features"]), f"service {service}")


def feast_asked_wrongly(f):
    def ask(body, words, text, status=400):
        problem(f, f.post("/get-online-features", body), status, words, text)

    ids = {"user_id": ["u1"], "item_id": ["i3"]}
    ask({"feature_service": "ctrl", "entities": ids}, ["ctrl", "freshet", "ctr"], "an unknown service", 404)
    ask({"features": ["hour"], "entities": ids}, ["VIEW:FEATURE"], "a name without a view")
    ask({"features": ["user:item_ctr_1d"], "entities": ids}, ["item_ctr_1d", "view"], "a feature of another view")
    ask({"features": ["x:hours"], "entities": ids}, ['did you mean "hour"'], "a name nearly right")
    ask({"features": ["x:hour", "y:hour"], "entities": ids}, ["hour", "full_feature_names"], "one name twice")
    ask({"features": ["x:user_id"], "entities": ids}, ["user_id", "full_feature_names"], "the name of an entity column")
    ask({"features": ["x:item_ctr_1d"], "entities": {"user_id": ["u1"]}}, ["item_id"], "a feature without its entity")
    ask({"features": ["x:hour"], "entities": {"user_id": ["u1"], "item_id": []}}, ["length"], "lists of two lengths")
    ask({"features": ["x:hour"], "entities": {"device": ["phone"]}}, ["user_id"], "no entity")
    ask({"features": ["x:hour"], "entities": {}}, ["entities"], "no lists")
    ask({"features": ["x:hour"], "entities": [1]}, ["entities"], "entities that are no object")
    ask({"entities": ids}, ["features", "feature_service"], "neither features nor a service")
    ask({"features": ["x:hour"], "entities": {"user_id": ["u1", None]}}, ["row 1", "user_id"], "an id that is null")


# ---- taps

def produce(f, lines):
    kcat = subprocess.run(["kcat", "-P", "-b", f.broker, "-t", "events", "-K", "|"], check=True,
                          input="".join(f"{e.get('user_id', 'x')}|{json.dumps(e)}\n" for e in lines).encode())
    return kcat.returncode


def tap(f, *args, name="tap"):
    """A tap in the background, once the daemon has it."""
    before = taps(f)
    process = f.start(name, "tap", "--url", f"http://127.0.0.1:{f.port}", *args)
    wait_until(lambda: taps(f) > before or not process.alive(), 10, "the tap")
    return process


def taps(f):
    return f.status()["taps"]


def lines(process):
    return [json.loads(line) for line in process.stdout().splitlines()]


def tapped(f):
    now = f.status()["at"]
    events = [{"type": "impression", "user_id": "t1", "items": [{"item_id": "a", "position": 0}, {"item_id": "b"}],
               "request_id": "r1", "timestamp": now + 1, "context": {"device": "phone", "n": 2, "b": True}},
              {"type": "watch", "user_id": "t1", "item_id": "a", "timestamp": now + 2, "watch_ms": 900},
              {"type": "watch", "user_id": "t2", "item_id": "b", "timestamp": now + 3, "watch_ms": 2000, "value": 1.5},
              {"type": "nonsense", "user_id": "t1", "item_id": "a", "timestamp": now + 4}]
    by = {"type": tap(f, "events", "--where", "type=watch", "--limit", "2"),
          "and": tap(f, "events", "--where", "user_id=t1", "--where", "watch_ms<1000", "--limit", "1"),
          "item": tap(f, "events", "--where", "item_id=b", "--where", "context.device=phone", "--limit", "1"),
          "bad": tap(f, "events", "--where", "reason=type", "--limit", "1")}
    problem(f, f.get("/v1/tap?kind=events"), 503, ["4 taps"], "a fifth tap")
    produce(f, events)
    f.equal({n: t.wait(20) for n, t in by.items()}, dict.fromkeys(by, 0), "they end at their limit")
    wait_until(lambda: taps(f) == 0, 10, "the taps' end")
    f.equal(sorted(e["user_id"] for e in lines(by["type"])), ["t1", "t2"], "by type")
    f.equal([(e["item_id"], e["watch_ms"]) for e in lines(by["and"])], [("a", 900)], "two conditions")
    shown = lines(by["item"])[0]
    f.check(all(shown[k] == v for k, v in events[0].items() if k != "items") and shown["topic"] == "events"
            and [i["item_id"] for i in shown["items"]] == ["a", "b"], f"an event as it came: {shown}")
    f.check(lines(by["bad"])[0]["type"] == "bad" and "nonsense" in lines(by["bad"])[0]["detail"], "a bad message")


def samples(f):
    now = f.status()["at"]
    process = tap(f, "samples", "--where", "labels.click=1", "--where", "user_id=s1", "--limit", "1")
    produce(f, [{"type": "impression", "user_id": u, "item_id": "a", "timestamp": now + 1} for u in ("s1", "s2")]
            + [{"type": "click", "user_id": u, "item_id": "a", "timestamp": now + 5000} for u in ("s1", "s2")]
            + [{"type": "click", "user_id": u, "item_id": "x", "timestamp": now + 700000} for u in ("s1", "s2", "s3", "s4")])
    # A partition that gets nothing holds the watermark until it is idle.
    f.equal(process.wait(60), 0, "a sample leaves while it is tapped")
    sample = lines(process)[0]
    f.check(sample["user_id"] == "s1" and sample["labels"]["click"] == 1 and "item_ctr_7d" in sample["features"], "its line")
    text = f.get("/metrics").text
    f.check("freshet_label_delay_seconds_count" in text and f.status()["label_delay"]["count"] > 100, "label delays")
    d = f.status()["label_delay"]
    f.check(0 < d["p50_s"] <= d["p99_s"] <= 600, f"their quantiles: {d}")


def slow_reader(f):
    s = socket.create_connection(("127.0.0.1", f.port), timeout=20)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.sendall(b"GET /v1/tap?kind=events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    wait_until(lambda: taps(f) == 1, 10, "the slow tap")
    before = f.status()["messages"]
    f.simulate("--events", "100000", "--users", "200", "--items", "300", "--rate", "40", "--slate", "1", "--seed", "9")
    wait_until(lambda: f.status()["lag"] == 0 and f.status()["messages"] > before + 50000, 60, "many events")
    produce(f, [{"type": "click", "user_id": "last", "item_id": "x", "timestamp": f.status()["at"]}])
    got = b""
    while b'"last"' not in got and b'"dropped"' not in got:
        piece = s.recv(65536)
        if not piece:
            break
        got += piece
    f.check(b'{"dropped":' in got, "what a slow reader did not get is told")
    f.check(len(got) < 4 << 20, f"{len(got)} bytes waited for it at most")
    s.close()
    produce(f, [{"type": "click", "user_id": f"g{n}", "item_id": "x", "timestamp": f.status()["at"]} for n in range(8)])
    wait_until(lambda: taps(f) == 0, 20, "a reader that went gives its place back")
    f.check(True, "a reader that went gives its place back")


def taps_asked_wrongly(f):
    url = ["--url", f"http://127.0.0.1:{f.port}"]
    for path, words, text in (("kind=event", ["kind=events"], "another kind"), ("", ["kind=events"], "no kind"),
                              ("kind=events&where=tpye=click", ["type"], "an unknown name"),
                              ("kind=samples&where=type=click", ["a sample has no"], "a name of the other kind"),
                              ("kind=events&where=type", ["NAME=VALUE"], "no condition"),
                              ("kind=events&where=timestamp%3Cnow", ["numbers"], "a text that is compared"),
                              ("kind=events&limit=0", ["limit"], "no limit"), ("kind=events&rate=x", ["rate"], "no rate"),
                              ("kind=events&what=1", ['"what"'], "an unknown argument"),
                              ("kind=events&where=%zz", ["hex"], "bad percent-encoding"),
                              ("kind=events" + "&where=type=click" * 17, ["16"], "too many conditions")):
        problem(f, f.get("/v1/tap?" + path), 400, words, text)
    f.equal(taps(f), 0, "none of them is a tap")
    wrong = f.run("tap", *url, "events", "--where", "tpye=click")
    f.check(wrong.returncode == 1 and 'did you mean "type"' in wrong.stderr, f"tap: {wrong.stderr.strip()}")
    f.equal(f.run("tap", *url, "things").returncode, 2, "tap of something else")


# ---- top

def top(f):
    url = ["--url", f"http://127.0.0.1:{f.port}"]
    once = f.run("top", *url, "--once", "--interval", "0.2", env={"NO_COLOR": "1"})
    f.check(once.returncode == 0 and "\033" not in once.stdout and "head click" in once.stdout and "lag" in once.stdout
            and max(len(line) for line in once.stdout.splitlines()) <= 80, "top --once, in 80 columns, without colour")
    figures = json.loads(f.run("top", *url, "--once", "--json", "--interval", "0.2").stdout)
    f.check(figures["version"] == f.status()["version"] and figures["events_per_s"] == 0 and
            0 < figures["heads"]["click"]["average_loss"] < 1, "top --json")
    piped = f.start("top", "top", *url, "--interval", "0.1")
    wait_until(lambda: piped.stdout().count("\n") >= 3, 20, "three lines")
    piped.kill(signal.SIGINT)
    f.equal(piped.wait(), 0, "SIGINT ends it well")
    f.check(all(line.startswith("ts=") and "click_auc=" in line for line in piped.stdout().splitlines()), "a line each time")
    f.equal(f.run("top", *url, "--interval", "0").returncode, 2, "no interval")
    on_terminal(f, url[1])
    on_terminal_error(f)


ENTER, LEAVE, HOME = b"\033[?1049h\033[?25l\033[2J", b"\033[?25h\033[?1049l", b"\033[H"
# Leads the session, as a shell does: with the end of it the kernel would put the terminal right by itself.
LEADER = """
import signal, subprocess, sys
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print("code", subprocess.call(sys.argv[1:]), flush=True)
signal.pause()
"""


class Terminal:
    """top in the foreground of a terminal of its own."""

    def __init__(self, f, url, interval, **more):
        self.master, slave = os.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.master)
        self.got = b""
        argv = [sys.executable, "-c", LEADER, f.binary, "top", "--url", url, "--interval", interval]
        self.leader = subprocess.Popen(argv, **{"stdin": slave, "stdout": slave, "stderr": slave, **more},
                                       preexec_fn=lambda: (os.setsid(), fcntl.ioctl(1, termios.TIOCSCTTY, 0)))
        os.close(slave)
        os.set_blocking(self.master, False)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def seen(self, text, times=1):
        try:
            self.got += os.read(self.master, 65536)
        except BlockingIOError:
            pass
        return self.got.count(text) >= times

    def wait(self, text, times=1):
        wait_until(lambda: self.seen(text, times), 20, f"{text} on the terminal")

    def type(self, keys):
        os.write(self.master, keys)

    def signal(self, number):
        os.killpg(self.leader.pid, number)

    def modes(self):
        return termios.tcgetattr(self.master)

    def taken(self):
        """Keys come one by one and are not shown; signals are still made of them."""
        flags = self.modes()[3]
        return not flags & (termios.ICANON | termios.ECHO) and flags & termios.ISIG

    def frame(self):
        """The lines of the last frame."""
        frame = self.got[self.got.rindex(HOME) + len(HOME):self.got.rindex(b"\033[J")]
        return re.sub(r"\033\[[0-9;]*[mK]", "", frame.decode()).splitlines()

    def ended(self, f, what, code=0):
        self.wait(b"code ")
        f.check(self.got.startswith(ENTER) and self.got.count(ENTER) == self.got.count(LEAVE)
                and f"code {code}\r\n".encode() in self.got[self.got.rindex(LEAVE):] and self.modes() == self.before,
                f"top on a terminal, which is as it was after {what}")
        self.leader.kill()
        self.leader.wait()
        os.close(self.master)


def on_terminal(f, url):
    """On a terminal: the screen and the keys are taken, and given back however it ends."""
    ends = {"q": lambda t: t.type(b"xq"), "Ctrl-C": lambda t: t.type(b"\x03"), "Ctrl-\\": lambda t: t.type(b"\x1c"),
            "SIGTERM": lambda t: t.signal(signal.SIGTERM), "SIGHUP": lambda t: t.signal(signal.SIGHUP)}
    for what, end in ends.items():
        t = Terminal(f, url, "0.1")
        t.wait(HOME, 3)
        f.check(t.taken(), "keys are taken")
        end(t)
        t.ended(f, what)
    t = Terminal(f, url, "3600")
    t.wait(b"\033[J")
    f.check(max(map(len, t.frame())) > 40 and len(t.frame()) > 9, f"a frame of {len(t.frame())} lines")
    t.resize(10, 40)
    t.wait(b"\033[J", 2)
    f.check(max(map(len, t.frame())) == 40 and len(t.frame()) == 9, "follows the size of the terminal, at once")
    t.type(b"q")
    t.ended(f, "q within a long interval")
    suspended(f, url)
    t = Terminal(f, url, "0.1", stdin=subprocess.DEVNULL)
    t.wait(HOME, 3)
    f.equal(t.modes(), t.before, "where the keys are not the terminal's they stay as they are")
    t.signal(signal.SIGTERM)
    t.ended(f, "SIGTERM without keys")


def suspended(f, url):
    t = Terminal(f, url, "0.1")
    t.wait(HOME, 3)
    t.type(b"\x1a")
    t.wait(LEAVE)
    f.equal(t.modes(), t.before, "Ctrl-Z gives the terminal back")
    later = time.monotonic() + 0.2  # the time of the next frame passes meanwhile
    wait_until(lambda: time.monotonic() > later, 20, "time")
    wait_until(lambda: (t.signal(signal.SIGCONT), t.seen(ENTER, 2))[1], 20, "the screen again")
    frames = t.got.count(HOME)
    t.wait(HOME, frames + 3)
    between = t.got[t.got.index(LEAVE) + len(LEAVE):t.got.rindex(ENTER)]
    f.check(t.taken() and b"freshet" not in between, "and SIGCONT takes it again, before anything is drawn")
    t.type(b"q")
    t.ended(f, "that and q")


def on_terminal_elsewhere(f, slow_s, answers, last):
    """top of what is no daemon, but has a daemon's answers, and after them another for ever."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = answers.pop() if answers else last
            time.sleep(slow_s)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return Terminal(f, f"http://127.0.0.1:{server.server_port}", "0.1")


def on_terminal_error(f):
    status = f.get("/v1/status").body
    t = on_terminal_elsewhere(f, 0, [status] * 3, b"[]")
    t.ended(f, "an error", 1)
    f.check(b"not a status" in t.got[t.got.rindex(LEAVE):], "and told after that, where it can be read")
    t = on_terminal_elsewhere(f, 0.15, [], status)
    t.wait(HOME, 3)
    t.type(b"q")
    t.ended(f, "q beside a daemon that is slower than the interval")


def stop_under_taps(f, daemon):
    process = tap(f, "events")
    f.equal(daemon.stop(), 0, "SIGTERM ends the daemon under a tap")
    f.equal(process.wait(20), 1 if "stopped" in process.stderr() else 0, f"and the tap: {process.stderr().strip()}")
    away = f.run("top", "--url", f"http://127.0.0.1:{f.port}", "--once")
    f.check(away.returncode == 1 and "refused" in away.stderr, "top of nobody")


def main():
    f = harness.Freshet()
    f.start_broker()
    daemon = f.start_daemon("--set", "stream.time.idle_after=1s")
    fill(f)
    features(f)
    features_asked_wrongly(f)
    feast(f)
    feast_asked_wrongly(f)
    tapped(f)
    samples(f)
    taps_asked_wrongly(f)
    slow_reader(f)
    top(f)
    stop_under_taps(f, daemon)
    return f.summary()


sys.exit(main())
