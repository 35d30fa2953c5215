# SPDX-License-Identifier: Apache-2.0
# HTTP of a running daemon: every route, what it says when asked wrongly, its bounds; /metrics; `get` and
# `score` over HTTP and from the state give the same.
import json
import re
import shutil
import socket
import subprocess
import sys
from urllib.parse import quote

import harness

BODY_MAX = 1 << 20
SAMPLE = re.compile(r'^([a-z_][a-z0-9_]*)(\{[a-z_]+="(?:[^"\\]|\\.)*"(?:,[a-z_]+="(?:[^"\\]|\\.)*")*\})? (\S+)$')


def problem(f, answer, status, words, text):
    f.equal(answer.status, status, text)
    if answer.headers.get("content-type") != "application/problem+json":
        return f.check(False, f"{text}: problem+json, not {answer.headers.get('content-type')}")
    body = answer.json
    f.check(set(body) == {"type", "title", "status", "detail", "instance"} and body["status"] == status
            and all(w in body["detail"] for w in words), f"{text}: {body['detail']}")


def metrics(text):
    """name -> type, (name + labels) -> value; every rule that is broken."""
    types, helped, values, broken = {}, set(), {}, []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            broken += [f"HELP twice: {name}"] if name in helped else []
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            broken += [f"TYPE twice: {name}"] if name in types else []
            types[name] = kind
        else:
            m = SAMPLE.match(line)
            if not m:
                broken.append(f"not a sample: {line}")
                continue
            base = re.sub(r"_(bucket|sum|count)$", "", m[1])
            name = base if types.get(base) == "histogram" else m[1]
            broken += [] if name in types and name in helped else [f"no HELP or TYPE: {line}"]
            broken += [f"twice: {line}"] if m[1] + (m[2] or "") in values else []
            values[m[1] + (m[2] or "")] = float(m[3])
    for name, kind in types.items():
        broken += [f"counter without _total: {name}"] if (kind == "counter") != name.endswith("_total") else []
        broken += [f"not a base unit: {name}"] if re.search(r"_(ms|us|kb|mb|minutes)(_|$)", name) else []
    return types, values, broken


def before_events(f):
    f.equal(f.get("/healthz").json, {"status": "ok"}, "alive at once")
    problem(f, f.get("/readyz"), 503, [], "not ready without a model")
    problem(f, f.get("/v1/users/nobody"), 404, ["nobody"], "an unknown user")
    _, _, broken = metrics(f.get("/metrics").text)
    f.equal(broken, [], "/metrics of an empty daemon follows the rules")


def fill(f):
    done = f.simulate("--events", "20000", "--users", "200", "--items", "300", "--rate", "4")
    f.equal(done.returncode, 0, "simulate")
    f.wait_ready()
    f.wait_settled()
    f.check(f.status()["version"] > 1, "versions are made")


def some_ids(f):
    """A user with clicks and an item, found by asking."""
    for n in range(200):
        answer = f.get(f"/v1/users/u{n}")
        if answer.status == 200 and answer.json["sequences"].get("click"):
            return f"u{n}", answer.json["sequences"]["click"][0]["item_id"]
    raise RuntimeError("no user has clicked")


def views(f, user, item):
    document = f.get(f"/v1/users/{user}").json
    f.check(document["user_id"] == user and "impression" in document["counters"], "a user")
    f.check({"profile", "counters", "sequences", "pending", "at", "first_ts"} <= set(document), "its members")
    early = f.get(f"/v1/users/{user}?at={document['first_ts'] - 1}").json
    f.check(early["at"] == document["first_ts"] - 1, "as of a time")
    f.equal(f.get(f"/v1/users/{user}?at=2026-01-01T01:00:00%2B00:00").status, 200, "as of RFC 3339")
    problem(f, f.get(f"/v1/users/{user}?at=noon"), 400, ["noon"], "a bad time")
    f.equal(f.get(f"/v1/items/{item}").json.get("item_id"), item, f"item {item}")
    f.equal(f.get("/v1/items/" + "".join(f"%{ord(c):02x}" for c in item)).json["item_id"], item, "percent-decoding")
    problem(f, f.get("/v1/items/a%2Fb%20c"), 404, ["a/b c"], "an id with a slash")
    problem(f, f.get("/v1/items/a%2"), 400, ["hex"], "bad percent-encoding")
    row = f.get(f"/v1/embeddings/items/{item}").json
    f.check(row["id"] == item and len(row["vector"]) == 16 and row["admitted"], "an embedding")
    problem(f, f.get("/v1/embeddings/nothing/x"), 404, ["users", "items"], "an unknown table names the tables")
    problem(f, f.get("/v1/embeddings/items/no-such"), 404, ["no-such"], "an unknown row")


def scores(f, user, item):
    answer = f.post("/v1/score", {"user_id": user, "items": [item, "new", 7]})
    f.equal(answer.status, 200, "score")
    f.equal([s["item_id"] for s in answer.json["scores"]], [item, "new", "7"], "in the order of the request")
    f.check(all(0 < s["click"] < 1 for s in answer.json["scores"]), "probabilities")
    again = f.post("/v1/score", {"user_id": user, "items": [item, "new", 7], "timestamp": answer.json["at"],
                                 "context": {"device": "phone", "n": 1.5, "b": True, "none": None}})
    f.equal(again.json["scores"], answer.json["scores"], "with time and a context that no feature reads: the same")
    f.equal(f.post("/v1/score", {"user_id": user, "items": ["x"] * 1000}).status, 200, "1000 items")
    problem(f, f.post("/v1/score", {"user_id": user, "items": ["x"] * 1001}), 400, ["1000", "1001"], "1001 items")
    problem(f, f.post("/v1/score", '{"user_id": "u",\n "items": [}'), 400, ["line 2", "column"], "bad JSON")
    problem(f, f.post("/v1/score", ""), 400, ["line 1"], "no body")
    problem(f, f.post("/v1/score", {"user_id": user}), 400, ["items"], "no items")
    problem(f, f.post("/v1/score", {"user_id": 1.5, "items": ["a"]}), 400, ["user_id"], "a fraction for an id")
    problem(f, f.post("/v1/score", {"user_id": user, "items": ["a", ""]}), 400, ["items[1]"], "an empty id")
    problem(f, f.post("/v1/score", {"user_id": user, "items": ["a"], "item": 1}), 400, ['"item"'], "unknown field")
    problem(f, f.post("/v1/score", {"user_id": user, "items": ["a"], "context": {"x": []}}), 400, ["context.x"],
            "a context that is not flat")
    problem(f, f.post("/v1/score", {"user_id": user, "items": ["a"], "timestamp": "noon"}), 400, ["noon"], "bad time")
    problem(f, f.post("/v1/score", b" " * (BODY_MAX + 1)), 413, [str(BODY_MAX)], "a body above http.body")
    problem(f, f.post("/v1/score", b"[" * 100000), 400, ["line"], "deep nesting")


def raw(f, data):
    with socket.create_connection(("127.0.0.1", f.port), timeout=10) as s:
        s.sendall(data)
        answer = b""
        while piece := s.recv(65536):
            answer += piece
    return answer


def explained(f, user, item):
    """Every feature of the pair is there, with where it comes from; by GET, by POST and from the CLI the same."""
    a = f.get(f"/v1/explain/{user}/{item}").json
    b = f.post("/v1/explain", {"user_id": user, "items": [item], "timestamp": a["at"]}).json
    f.equal(b, a, "explain by GET and by POST")
    by_name = {x["name"]: x for x in a["features"]}
    f.check({"user_id", "item_ctr_7d", "clicks", "hour"} <= set(by_name), f"features: {sorted(by_name)}")
    counts = {x["measure"]: x for x in by_name["item_ctr_7d"]["from"]}
    seen = f.get(f"/v1/items/{item}?at={a['at']}").json["counters"]
    f.equal((counts["click"]["value"], counts["impression"]["value"]),
            tuple(seen[k]["7d"] for k in ("click", "impression")), "a rate's counters are the item's")
    wanted = (counts["click"]["value"] + 1) / (counts["impression"]["value"] + 20)
    f.check(abs(by_name["item_ctr_7d"]["value"] - wanted) < 1e-12 and by_name["item_ctr_7d"]["by"], "and the steps lead to it")
    r = f.run("explain", "--url", f"http://127.0.0.1:{f.port}", "--json", "--at", str(a["at"]), user, item)
    f.equal(json.loads(r.stdout) if r.returncode == 0 else r.stderr, a, "freshet explain --json")
    r = f.run("explain", "--url", f"http://127.0.0.1:{f.port}", "--context", "device=tv", user, item)
    f.check(r.returncode == 0 and "item_ctr_7d" in r.stdout and "->" in r.stdout, "freshet explain in words")
    f.equal(f.run("explain", "--context", "device", user, item).returncode, 2, "a context without =")
    f.equal(f.get("/v1/explain/nobody/nothing").json["known"], {"user": False, "item": False}, "a pair that is not known")
    problem(f, f.post("/v1/explain", {"user_id": user, "items": [item, item]}), 400, ["one item"], "two items")


def protocol(f):
    problem(f, f.get("/v2/nothing"), 404, ["/v1/score", "/v1/users/*"], "an unknown path names the routes")
    problem(f, f.get("/v1/users/"), 404, ["/v1/users/*"], "no id")
    wrong = f.post("/v1/status", "{}")
    problem(f, wrong, 405, ["GET"], "a wrong method")
    f.equal(wrong.headers.get("allow"), "GET, HEAD", "Allow")
    f.equal(f.get("/v1/score").headers.get("allow"), "POST", "Allow of a POST")
    head = f.http("HEAD", "/v1/status")
    f.check(head.status == 200 and head.body == b"" and int(head.headers["content-length"]) > 100, "HEAD")
    problem(f, f.get("/v1/status", {"Host": "evil.example"}), 421, ["evil.example"], "another Host")
    problem(f, f.get("/v1/status", {"Host": "127.0.0.1.evil.example"}), 421, ["evil"], "a Host that begins right")
    f.equal(f.get("/v1/status", {"Host": f"localhost:{f.port}"}).status, 200, "Host localhost with a port")
    f.equal(f.get("/v1/status", {"Host": "[::1]"}).status, 200, "Host [::1]")
    f.check(raw(f, b"nonsense\r\n\r\n")[:12] in (b"HTTP/1.1 400", b"HTTP/1.0 400", b""), "nonsense is turned away")
    long = raw(f, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40000 + b"\r\n\r\n")
    f.check(b" 431 " in long[:20] or b" 413 " in long[:20], "headers above their memory")
    two = raw(f, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
                 b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    f.equal(two.count(b'{"status":"ok"}'), 2, "two requests at once on one connection")
    f.equal(f.post("/v1/reload").json, {"status": "reloaded"}, "reload")


def promtool(f):
    """What Prometheus itself says of the text, where it is there: it is no part of the setup, being 100 MB."""
    tool = shutil.which("promtool")
    if tool is None:
        print("skip  promtool is not installed")
        return
    r = subprocess.run([tool, "check", "metrics"], input=f.get("/metrics").text, capture_output=True, text=True, timeout=60)
    f.check(r.returncode == 0 and not r.stderr.strip(), f"promtool check metrics {r.stderr.strip()[:500]}")


def status(f):
    s = f.status()
    f.check(s["ready"] and s["problem"] is None and s["lag"] == 0 and s["uptime_ms"] > 0, "status is well")
    f.check(s["events"]["impression"] == 20000, f"impressions in status: {s['events']}")
    newest = s["newest_updates"][0]
    f.check(newest["version"] == s["version"] and newest["heads"]["click"]["samples"] > 0, "the newest update")
    f.check(0.4 < s["metrics"]["click"]["auc"] < 1 and "after_bootstrap" in s["metrics"]["click"], "metrics")
    f.check(sum(s["offsets"]["events"].values()) == s["messages"], "offsets add up to the messages")
    types, values, broken = metrics(f.get("/metrics").text)
    f.equal(broken, [], "/metrics follows the rules")
    promtool(f)
    f.equal(values['freshet_events_total{type="impression"}'], 20000.0, "impressions in /metrics")
    f.check(values["freshet_model_version"] >= newest["version"], "version in /metrics")
    for name in (n for n, kind in types.items() if kind == "histogram"):
        counts = [v for k, v in values.items() if k.startswith(name + "_bucket")]
        f.check(counts == sorted(counts) and counts[-1] == values[name + "_count"], f"{name} is cumulative")
    for code in ("2xx", "4xx", "5xx"):
        f.check(values[f'freshet_http_requests_total{{code="{code}"}}'] > 0, f"{code} are counted")


def at_rest(f):
    """The watermark of a partition that is behind moves once it is idle, and what waits for it is then settled."""
    s = f.status()
    return s["watermark"] == s["at"] - 5000 and f.settled()


def cli(f, daemon, user, item):
    harness.wait_until(lambda: at_rest(f), 120, "the watermark")
    url = ["--url", f"http://127.0.0.1:{f.port}"]
    asked = [["get", "user", user], ["get", "item", item], ["get", "embedding", "items", item],
             ["score", user, item, "new"], ["explain", user, item]]
    over_http = [f.run(*a[:1], "--json", *url, *a[1:]) for a in asked]
    text = f.run("get", *url, "user", user)
    f.check(text.returncode == 0 and f"user {user}" in text.stdout and "impression" in text.stdout, "get as text")
    text = f.run("score", *url, user, item, "new")
    f.check(text.stdout.split()[:2] == ["item", "click"] and len(text.stdout.splitlines()) == 3, "score as text")
    text = f.run("get", *url, "embedding", "items", item)
    f.check(text.returncode == 0 and "last seen" in text.stdout, "get embedding as text")
    gone = f.run("get", *url, "user", "nobody")
    f.check(gone.returncode == 1 and "nobody" in gone.stderr, f"get of nobody: {gone.stderr.strip()}")
    f.equal(f.run("get", *url, "cat", "x").returncode, 2, "get of something else")
    f.equal(f.run("score", *url, "--context", "[", user, item).returncode, 2, "score with a bad context")
    busy = f.run("run", "--state", f.path("other"), "--set", f"http.listen=127.0.0.1:{f.port}")
    f.check(busy.returncode == 1 and "in use" in busy.stderr and "--set http.listen=" in busy.stderr, "port in use")
    f.equal(daemon.stop(), 0, "SIGTERM ends it well")
    away = f.run("get", *url, "user", user)
    f.check(away.returncode == 1 and "(connection refused)" in away.stderr and "freshet run" in away.stderr,
            f"nobody there: {away.stderr.strip()}")
    for a, answer in zip(asked, over_http):
        state = f.run(*a[:1], "--json", "--state", f.path("state"), *a[1:])
        what = ' '.join(a)
        f.equal(answer.returncode, 0, f"{what} over HTTP" + answer.stderr[:2000])
        f.equal(state.returncode, 0, f"{what} of the state" + state.stderr[:2000])
        f.equal(json.loads(answer.stdout), json.loads(state.stdout), f"{what}: HTTP and state agree")
    gone = f.run("get", "--state", f.path("state"), "item", "no-such")
    f.check(gone.returncode == 1 and "no-such" in gone.stderr, "get of nothing from a state")


def token(f):
    daemon = f.start_daemon("--set", "http.token=secret")
    f.equal(f.get("/healthz").status, 200, "/healthz needs no token")
    for header in ({}, {"Authorization": "Bearer secreT"}, {"Authorization": "Bearer secretsecret"},
                   {"Authorization": "Bearer "}, {"Authorization": "Basic secret"}):
        answer = f.get("/metrics", header)
        problem(f, answer, 401, ["http.token"], f"token {header.get('Authorization')}")
        f.check(answer.headers.get("www-authenticate", "").startswith("Bearer"), "WWW-Authenticate")
    f.equal(f.get("/metrics", {"Authorization": "Bearer secret", "Host": "any"}).status, 200, "the right token")
    listen = ["--set", f"http.listen=127.0.0.1:{f.port}"]
    f.equal(f.run("get", *listen, "user", "nobody").returncode, 1, "get without the token")
    found = f.run("get", *listen, "--set", "http.token=secret", "--json", "user", some_ids_token(f))
    f.equal(found.returncode, 0, "get with the token")
    f.equal(daemon.stop(), 0, "ends well")


def some_ids_token(f):
    header = {"Authorization": "Bearer secret"}
    return next(f"u{n}" for n in range(200) if f.get(f"/v1/users/{quote(f'u{n}')}", header).status == 200)


def any_port(f):
    daemon = f.start("run", "run", "--state", f.path("third"), "--set", "http.listen=127.0.0.1:0")
    port = harness.wait_until(lambda: re.search(r"address=127.0.0.1 port=(\d+)", daemon.stderr()), 30, "the port")
    f.port = int(port[1])
    f.equal(f.get("/healthz").status, 200, "port 0 is found and told")
    f.equal(daemon.stop(), 0, "ends well")


def filled(f):
    """Bodies of all requests together have a bound: beyond it a request is told to try again, and can once there is room."""
    daemon = f.start_daemon("--set", "http.body=31MiB", state="fourth")
    body = b'{"user_id": "u", "items": ["i"]}' + b" " * (24 << 20)
    head = f"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def answer(s):
        got = b""
        while True:
            more = s.recv(65536)
            if not more:
                return got
            got += more

    with socket.create_connection(("127.0.0.1", f.port)) as first:
        first.sendall(head + body[:-1])
        problem(f, f.post("/v1/score", body), 503, ["try again"], "a body beyond what is left")
        f.equal(f.get("/healthz").status, 200, "what needs no room is answered")
        first.sendall(body[-1:])
        f.check(b" 200 " in answer(first)[:16], "the one that has its room is answered")
    f.equal(f.post("/v1/score", body).status, 200, "and then the next")
    f.equal(daemon.stop(), 0, "ends well")


def main():
    f = harness.Freshet()
    f.start_broker()
    daemon = f.start_daemon()
    before_events(f)
    fill(f)
    user, item = some_ids(f)
    views(f, user, item)
    scores(f, user, item)
    explained(f, user, item)
    protocol(f)
    status(f)
    cli(f, daemon, user, item)
    token(f)
    any_port(f)
    filled(f)
    return f.summary()


sys.exit(main())
