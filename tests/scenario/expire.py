# SPDX-License-Identifier: Apache-2.0
# Users and items that were not seen for `state.expire` vanish everywhere: exports, digests, profiles, the disk. When they
# come again they begin anew. It is decided by the watermark alone: restarts and cuts into commits change nothing.
# argv[1]: the freshet binary.
import json
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet  # noqa: E402

DAY = 86_400_000
START = 1_767_225_600_000
EXPIRE = 10 * DAY
STEP = EXPIRE // 16
CONFIG = {
    "counters": {"totals": True, "item": {"by": ["user.gender"]}},
    "state": {"expire": {"users": "10d", "items": "10d"}},
    "update": {"enabled": False}}


def events(rng):
    """60 days. A user of number n is active on days n % 20 .. n % 20 + 3, and again 30 days later if n is even. "daily" is
    there on every day."""
    out = []
    for day in range(60):
        out.append({"type": "impression", "user_id": "daily", "item_id": "i0", "timestamp": START + day * DAY})
        for n in range(200):
            since = day - n % 20
            if not (0 <= since < 4 or (n % 2 == 0 and 30 <= since < 34)):
                continue
            for _ in range(3):
                ts = START + day * DAY + rng.randrange(DAY)
                item = f"i{n % 20 * 10 + rng.randrange(10)}"
                out.append({"type": "impression", "user_id": f"u{n}", "item_id": item, "timestamp": ts})
                if rng.random() < 0.5:
                    out.append({"type": "click", "user_id": f"u{n}", "item_id": item, "timestamp": ts + 2000})
    return sorted(out, key=lambda e: e["timestamp"])


def profiles():
    return [{"user_id": u, "timestamp": START, "attributes": {"gender": "f"}} for u in ["daily"] + [f"u{n}" for n in range(200)]]


def alive(last, watermark):
    return watermark < last // STEP * STEP + STEP + EXPIRE


def expected(log):
    """Lifetime totals of whoever is alive at the end, by plain counting."""
    entities, highest, watermark = {}, 0, None
    for e in log:
        for kind, of in (("user", e["user_id"]), ("item", e["item_id"])):
            seen = max(e["timestamp"], watermark or 0)
            x = entities.get((kind, of))
            if x is None or (watermark is not None and not alive(x["last"], watermark)):
                x = entities[kind, of] = {"last": 0, "counts": {}}
            x["last"] = max(x["last"], seen)
            x["counts"][e["type"]] = x["counts"].get(e["type"], 0) + 1
        highest = max(highest, e["timestamp"])
        watermark = highest - 5000
    return {(kind, of, action): n for (kind, of), x in entities.items() if alive(x["last"], watermark)
            for action, n in x["counts"].items()}


def replay(f, config, state, users, log, *more):
    r = f.run("replay", "-c", config, "--users", users, "--events", log, "--state", state, *more)
    if r.returncode:
        raise RuntimeError(r.stderr)
    return json.loads(r.stdout)


def exported(f, config, what, state):
    r = f.run("export", what, "-c", config, "--state", state)
    if r.returncode:
        raise RuntimeError(r.stderr)
    return [json.loads(line) for line in r.stdout.splitlines()]


def write(path, rows):
    with open(path, "w") as to:
        to.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def main():
    f = Freshet()
    log = events(random.Random(3))
    config, users = f.path("config.json"), write(f.path("users"), profiles())
    with open(config, "w") as to:
        json.dump(CONFIG, to)
    whole = write(f.path("log"), log)
    first = replay(f, config, f.path("one"), users, whole)

    rows = exported(f, config, "counters", f.path("one"))
    got = {(r["entity"], r["id"], r["action"]): r["windows"]["total"] for r in rows if r["by"] is None}
    wanted = expected(log)
    f.equal(got, wanted, f"{len(wanted)} totals: those alive at the end, counted since they came again")
    f.check(0 < len({k[1] for k in wanted if k[0] == "user"}) < 201, "some users are gone and some are not")
    ids = {r["id"] for r in rows if r["by"] is not None and r["entity"] == "item"}
    f.equal(ids - {k[1] for k in wanted}, set(), "groups went with their owners")
    there = {k[1] for k in wanted if k[0] == "user"}
    f.equal({r["user_id"] for r in exported(f, config, "sequences", f.path("one"))} - there, set(), "and sequences")
    gone = next(f"u{n}" for n in range(200) if f"u{n}" not in there)
    r = f.run("get", "user", gone, "-c", config, "--state", f.path("one"), "--json")
    f.check(r.returncode == 1 or json.loads(r.stdout).get("profile") is None, f"the profile of {gone} is gone")
    r = f.run("get", "user", "daily", "-c", config, "--state", f.path("one"), "--json")
    f.check(r.returncode == 0 and "gender" in r.stdout, "that of a daily user is not, though it came on the first day")

    cut = f.path("cut")
    for part in range(1, 7):
        at = len(log) * part // 6
        write(f.path("part"), log[:at])
        os.replace(f.path("part"), f.path("log-cut"))
        again = replay(f, config, cut, users, f.path("log-cut"), "--set", "state.commit_events=700")
    for what in ("counters", "sequences", "profiles", "joiner", "samples"):
        f.equal(again["digest"][what], first["digest"][what], f"digest of {what} with restarts and small commits")

    shorter = CONFIG | {"state": {"expire": {"users": "1d"}}}
    with open(f.path("short.json"), "w") as to:
        json.dump(shorter, to)
    r = f.run("check", "--no-environment", "-c", f.path("short.json"))
    f.check(r.returncode == 78 and "state.expire.users is shorter than the longest of counters.windows, 7d" in r.stderr,
            f"an expire below the longest window is refused: {r.stderr.strip()}")
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
