# SPDX-License-Identifier: Apache-2.0
"""What a round of the crash harness is, drawn from a seed: a log, a config, a way of running and its crashes.

A round is plain data (a dict that JSON can hold), so that one that failed can be kept and run again as it was,
also after the way of drawing has changed: rounds.jsonl holds such rounds.

    log        {"kind": "nasty" | "simulated", "seed", "messages", "without"}
    parts      files or partitions; a user's events are in one of them
    bad        messages between the others that must come out as dead letters
    profiles   whether there are profiles of users and items, in files or topics of their own
    settings   what decides the result: windows, joins, updates. Digests are compared among equal settings
    physical   what must decide nothing: commits, caches
    way        "files": replay; "live": the daemon and a broker, then a follower
    cut        files: the log grows once, at this share of it
    crashes    one a run of the program, in order: see shim.c; or {"moment": share of an undisturbed run}
    follow     the same for the follower of a live round
    samples_topic   partitions of the topic of samples of a live round; absent: there is none
"""
import json
import random

STEPS = ["commit.collect", "commit.collected", "commit.write", "commit.written", "commit.ingest", "commit.durable",
         "commit.told", "commit.expire", "commit.expired",
         "outbox.send", "outbox.sent", "outbox.reported", "outbox.delivered",
         "update.begin", "update.fed", "update.record", "update.recorded", "update.marked", "update.apply",
         "update.applied"]

EIO, ENOSPC, ECONNRESET = 5, 28, 104

# How many calls of a class a short run makes, about.
CALLS = {"open": 30, "write": 80, "sync": 150, "range": 60, "allocate": 5, "rename": 8, "link": 25, "unlink": 40, "truncate": 3,
         "mkdir": 8, "send": 60, "recv": 80, "any": 300, "step": 12}


def targets():
    """What a round begins with, in turn: each named step, each class of calls before and after, each error."""
    all = [{"on": "step", "name": s, "do": "kill"} for s in STEPS]
    for on in ("open", "write", "sync", "rename", "link", "unlink", "truncate", "mkdir", "any", "send", "recv"):
        all += [{"on": on, "do": do} for do in ("kill", "killafter")]
    for name in ("MANIFEST", "ingest/", "outbox/"):
        all += [{"on": "write", "name": name, "do": do} for do in ("kill", "torn", "killafter")]
        all += [{"on": "sync", "name": name, "do": do} for do in ("kill", "killafter")]
    all += [{"on": on, "do": "torn"} for on in ("write", "send")]
    all += [{"on": on, "do": "short", "times": 0} for on in ("write", "send")]
    all += [{"on": "write", "do": str(EIO)}, {"on": "sync", "do": str(EIO)}, {"on": "rename", "do": str(EIO)}]
    all += [{"on": "write", "name": name, "do": str(e), "times": t}
            for name in ("ingest/", "outbox/", "MANIFEST") for e, t in ((ENOSPC, 1), (ENOSPC, 3), (EIO, 1))]
    all += [{"on": on, "do": str(ENOSPC)} for on in ("open", "link", "rename", "mkdir")]
    all += [{"on": "sync", "name": name, "do": str(EIO)} for name in ("ingest/", "MANIFEST", "outbox/", ".sst")]
    all += [{"on": on, "do": str(ECONNRESET), "times": 2} for on in ("send", "recv")]
    all += [{"on": "step", "name": "commit." + s, "do": "full"} for s in ("write", "written", "ingest", "durable")]
    all += [{"on": on, "do": "full"} for on in ("open", "write", "link")]
    all += [{"on": "write", "name": name, "do": "full"} for name in ("ingest/", "MANIFEST", "outbox/")]
    all += [{"moment": True}] * 6
    return all


TARGETS = targets()


def log_uniform(rng, most):
    return max(1, min(most, round(most ** rng.random())))


def crash(rng, target):
    c = dict(target)
    if "moment" in c:
        c["moment"] = round(rng.random(), 3)
        return c
    if c.get("name", "").startswith("commit.expire"):
        c["at"] = 1  # once in so many commits
        return c
    c["at"] = log_uniform(rng, CALLS[c["on"]] // (4 if "name" in c and c["on"] != "step" else 1) or 1)
    if c["do"] == "full":
        c["room"] = round(rng.choice((0.05, 0.3, 1.2)), 2)  # seconds until there is room again
    return c


def needs_broker(target):
    return target.get("on") in ("send", "recv")


def log(rng):
    if rng.random() < 0.3:
        return {"kind": "simulated", "seed": rng.randrange(1000), "messages": rng.randrange(1500, 4000)}
    without = rng.sample(["order", "late", "duplicate", "items", "early", "again", "norequest", "integer", "stamp"],
                         rng.choice((0, 0, 1, 2)))
    return {"kind": "nasty", "seed": rng.randrange(1000), "messages": rng.randrange(1000, 3000), "without": without}


def ms(text):
    """Of "90s" and the like."""
    return int(text[:-1]) * {"s": 1_000, "m": 60_000, "h": 3_600_000}[text[-1]]


WINDOWS = ({"all": {}, "click": {"window": "90s"}, "like": {"window": "8m"}, "watch": {"window": "20m"}},
           {"click": {"window": "12m"}, "watch": {}}, {"all": {"window": "30s"}, "follow": {"window": "15m"}})
EMITS = ("wait", "wait", "first_label", "fake_negative")


def labels(rng, s):
    """When samples leave, what corrects them, and which are kept."""
    if rng.random() < 0.6:
        s["join.emit"] = rng.choice(EMITS)
    if rng.random() < 0.4:
        s["join.corrections"] = "true"
    if rng.random() < 0.4:
        s["join.window"] = rng.choice(("1m", "3m"))
    if rng.random() < 0.4:
        s["join.labels"] = json.dumps(rng.choice(WINDOWS))
    if rng.random() < 0.3:
        s["join.watch"] = rng.choice(("sum", "last"))
    if rng.random() < 0.3:
        s["join.remember"] = rng.choice(("4m", "30m"))
    if rng.random() < 0.3:
        s["join.keep_negatives"] = rng.choice(("0.4", json.dumps({"click": 0.2, "watch": 0.7})))
    if rng.random() < 0.3:
        s["join.thin_positives"] = json.dumps({"action": "click", "window": "1h", "above": rng.choice((1, 2)), "power": 0.5})
    if rng.random() < 0.2:
        s["join.max_pending"] = rng.choice((50, 300))
    mend(s)


def mend(s):
    """Some of it does not go together: config_join_check."""
    emit, window = s.get("join.emit", "wait"), ms(s.get("join.window", "10m"))
    longer = any(ms(v.get("window", "0s")) > window for v in json.loads(s.get("join.labels", "{}")).values())
    if longer and emit != "wait":
        s["join.corrections"] = "true"
    if not longer and emit == "wait":
        s.pop("join.corrections", None)
    if emit == "fake_negative":
        s.pop("join.thin_positives", None)


def expire(rng, s):
    """Users and items that vanish within the log: so with windows that are shorter."""
    s["state.expire.users"], s["state.expire.items"] = rng.choice((("3m", "0s"), ("0s", "3m"), ("4m", "6m")))
    s["counters.windows"] = json.dumps([{"name": "1h", "tile": "1m", "length": "2m"}])
    s["features"] = json.dumps({
        "user_id": {"id": "user", "table": "users"}, "item_id": {"id": "item", "table": "items"},
        "n": {"count": "impression", "of": "user", "window": "1h"}, "clicks": {"sequence": "click", "last": 20, "table": "items"},
        "ctr": {"rate": "click/impression", "of": "item", "window": "1h", "smooth": [1, 20]}, "age": {"age": "item"}})


def settings(rng):
    s = {"update.every": rng.choice(("1m", "2m", "5m")),
         "update.bootstrap.samples": rng.choice((300, 1000, 3000)),
         "update.batch": rng.choice((64, 256)),
         "publish.digest_every": rng.choice((1, 2, 5)),
         "state.samples_keep": rng.choice(("0s", "0s", "10m"))}
    labels(rng, s)
    if rng.random() < 0.2:
        expire(rng, s)
    if rng.random() < 0.3:
        s["stream.time.out_of_order"] = rng.choice(("1s", "1m"))
    if rng.random() < 0.2:
        s["dedupe.window"] = rng.choice(("0s", "2m"))
    if rng.random() < 0.3:
        s["tables.items.expire"] = "1h"
    if rng.random() < 0.2:
        s["tables.users.rows"] = 16
    return s


def case(seed, n):
    """What several rounds have in common: the log and what decides the result of it."""
    rng = random.Random(f"case {seed} {n}")
    return {"log": log(rng), "parts": rng.choice((1, 1, 1, 2)), "bad": rng.randrange(3, 40),
            "profiles": rng.random() < 0.3, "settings": settings(rng)}


def physical(rng):
    return {"state.commit_events": rng.choice((40, 97, 300, 1000, 5000)),
            "state.commit_every": rng.choice(("5ms", "30ms", "200ms")),
            "state.cache": rng.choice(("1MiB", "64MiB")),
            "state.body_cache": rng.choice(("1MiB", "16MiB")),
            "state.block_cache": "8MiB"}


CASE_ROUNDS = 8


def draw(seed, n):
    """Round n of a seed."""
    rng = random.Random(f"round {seed} {n}")
    order = random.Random(f"order {seed} {n // len(TARGETS)}").sample(range(len(TARGETS)), len(TARGETS))
    first = TARGETS[order[n % len(TARGETS)]]
    r = {"seed": seed, "round": n, **case(seed, n // CASE_ROUNDS), "physical": physical(rng)}
    rare = first.get("name", "").startswith(("commit.expire", "outbox/"))
    live = needs_broker(first) or (rng.random() < 0.2 and not rare)
    r["way"] = "live" if live else "files"
    if live and rng.random() < 0.5:
        r["samples_topic"] = rng.choice((1, 3))  # its partitions
    if first.get("name", "").startswith("commit.expire"):
        r["settings"] = {**r["settings"], "state.samples_keep": "2m", "join.window": "1m", "dedupe.window": "2m"}
        for key in "join.labels", "join.remember":  # what an impression waits for is kept longer
            r["settings"].pop(key, None)
        mend(r["settings"])
        r["physical"]["state.commit_events"] = 40
    others = [t for t in TARGETS if live or not needs_broker(t)]
    r["crashes"] = [crash(rng, t) for t in [first] + rng.choices(others, k=rng.choice((0, 1, 1, 2, 3)))]
    if n < len(TARGETS) and first.get("on") == "step":
        r["crashes"][0]["at"] = 1  # so that each step is met for certain
    r["follow"] = [crash(rng, t) for t in rng.choices(TARGETS, k=rng.choice((0, 1, 2)))] if live else []
    # Profiles are read to their end beside the first part of the events, and so before the rest: who is seen last, and
    # how old an item is, are others then, and rightly so.
    told = r["profiles"] and "state.expire.users" in r["settings"]
    if not live and r["parts"] == 1 and rng.random() < 0.2 and not told:
        r["cut"] = round(rng.random(), 2)
    r["as_committed"] = rng.random() < 0.15
    return r


def what(crash):
    """Its name in the summary: "step commit.write", "write MANIFEST torn", "sync .sst errno 5"."""
    if "moment" in crash:
        return "moment"
    do = f"errno {crash['do']}" if crash["do"].isdigit() else crash["do"]
    words = [crash["on"], crash.get("name"), None if crash["on"] == "step" and do == "kill" else do]
    return " ".join(w for w in words if w)


def kinds(r):
    """The names by which --only chooses rounds."""
    names = {r["way"], r["log"]["kind"]}
    for c in r["crashes"] + r["follow"]:
        names |= {"moment"} if "moment" in c else {c["on"], c["do"], c.get("name", "")}
    return names
