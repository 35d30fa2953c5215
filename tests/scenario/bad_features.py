# SPDX-License-Identifier: Apache-2.0
# Strange profiles and contexts, and what comes of each: attributes of a wrong or a changing type, ids and lists at
# their bounds, a category that is renamed, numbers that are none, names that come twice. argv[1]: the freshet binary.
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import Freshet  # noqa: E402

T = 1_767_225_600_000
CONFIG = {
    "stream": {"users": {"topic": "users", "attributes": {"age": "number", "gender": "string", "tags": "list", "vip": "boolean"}},
               "items": {"topic": "items"}},
    "buckets": {"age": {"of": "user.age", "edges": [0, 18]}},
    "counters": {"totals": True, "item": {"by": ["gender", "age", "vip"]}, "user": {"by": ["category"]}, "all": {"by": ["category"]}},
    "sequences": {"click": {"last": 10, "with": ["category"]}, "long": {"of": "click", "last": 100, "by": "item.category"}},
    "features": {
        "age": {"number": "user.age"}, "age_log": {"number": "user.age", "log1p": True},
        "age_bucket": {"number": "user.age", "bucketize": [0, 18]}, "age_or": {"number": "user.age", "missing": 40},
        "gender": {"id": "user.gender"}, "tags": {"ids": "user.tags", "last": 1000}, "price": {"number": "item.price", "log1p": True},
        "price_id": {"id": "item.price"}, "category": {"id": "item.category"},
        "mine": {"count": "click", "of": "user", "by": "category", "window": "total", "log1p": False},
        "long": {"sequence": "long", "last": 10, "table": "t"}, "depth": {"number": "context.depth", "log1p": True}},
    "tables": {"t": {"rows": 1000}}}


def lines(rows):
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)


class Run:
    """A replay of such events and profiles; its exports."""

    def __init__(self, f, name, events, users=(), items=()):
        self.f, self.dir = f, f.path(name)
        os.mkdir(self.dir)
        paths = {}
        for kind, rows in (("events", events), ("users", users), ("items", items)):
            paths[kind] = os.path.join(self.dir, kind + ".jsonl")
            with open(paths[kind], "w") as to:
                to.write(lines(rows))
        self.config = os.path.join(self.dir, "config.json")
        with open(self.config, "w") as to:
            json.dump(CONFIG, to)
        r = f.run("replay", "-c", self.config, *(x for k, p in paths.items() for x in ("--" + k, p)), "--flush", "--state",
                  os.path.join(self.dir, "state"), "--dlq", os.path.join(self.dir, "dlq"), "--set", "update.enabled=false")
        f.equal(r.returncode, 0, f"{name}: replay")
        self.summary = json.loads(r.stdout)

    def export(self, what):
        r = self.f.run("export", what, "-c", self.config, "--state", os.path.join(self.dir, "state"))
        if r.returncode:
            raise RuntimeError(r.stderr)
        return [json.loads(line) for line in r.stdout.splitlines()]

    def features(self):
        return [r["features"] for r in self.export("samples")]

    def counts(self, entity, id, by, action="impression"):
        return {r["bucket"]: r["windows"]["total"] for r in self.export("counters")
                if (r["entity"], r["id"], r["by"], r["action"]) == (entity, id, by, action)}


def shown(n, user="u", item="i", **more):
    return {"type": "impression", "user_id": user, "item_id": item, "timestamp": T + 1000 * n, **more}


def clicked(n, user="u", item="i", **more):
    return {**shown(n, user, item, **more), "type": "click"}


def profile(side, id, n, attributes):
    return {side + "_id": id, "timestamp": T + 1000 * n, "attributes": attributes}


def types(f):
    run = Run(f, "types", [shown(1), shown(3), shown(5)],
              users=[profile("user", "u", 0, {"age": "31", "gender": 5, "tags": "new", "vip": 1}),
                     profile("user", "u", 2, {"age": 31, "gender": "f", "tags": ["new", "new"], "vip": True}),
                     profile("user", "u", 4, {"age": [], "gender": True, "tags": 7, "vip": "yes"})])
    f.equal(run.summary["profile_conflicts"], {"user": 8, "item": 0}, "every value of a wrong type is counted")
    wrong = {"age": None, "age_log": None, "age_bucket": None, "age_or": 40, "gender": None, "tags": []}
    right = {"age": 31, "age_bucket": 2, "age_or": 31, "gender": "f", "tags": ["new", "new"]}
    for n, wanted in enumerate((wrong, right, wrong)):
        got = run.features()[n]
        f.equal({k: got[k] for k in wanted}, wanted, f"profile {n}: a value of another type is missing")
    f.equal((run.counts("item", "i", "gender"), run.counts("item", "i", "age"), run.counts("item", "i", "vip")),
            ({"f": 1}, {"2": 1}, {"true": 1}), "and is in no bucket")
    f.equal(run.counts("item", "i", None), {None: 3}, "the item's own counts have them all")


def undeclared(f):
    items = [profile("item", "i", 0, {"price": "cheap"}), profile("item", "i", 2, {"price": -4.5}),
             profile("item", "i", 4, {"price": True}), profile("item", "i", 6, {"price": ["1"]}), profile("item", "i", 8, {"price": 3})]
    got = Run(f, "undeclared", [shown(n) for n in (1, 3, 5, 7, 9)], items=items).features()
    f.equal([(g["price"] if g["price"] is None else round(g["price"], 6), g["price_id"]) for g in got],
            [(None, "cheap"), (0, -4.5), (0.693147, 1), (None, None), (1.386294, 3)],
            "an attribute that changes its type is what it is; of a negative number log1p is that of 0")


def bounds(f):
    longest, list_at_bound = "\u00e9" * 128, [f"tag{n}" for n in range(4096)]
    events = [clicked(1, longest, longest), shown(2, longest, longest), shown(3, longest + "x", "i"), shown(4, "u", "x" * 257)]
    run = Run(f, "bounds", events, users=[profile("user", longest, 0, {"tags": list_at_bound, "gender": longest}),
                                          profile("user", "many", 0, {"tags": list_at_bound + ["one more"]})],
              items=[profile("item", longest, 0, {"category": "c" * 4096}), profile("item", "i", 0, {"category": "c" * 4097})])
    f.equal(run.summary["dlq"], {"size": 2, "user_id": 1, "item_id": 1}, "what is over a bound goes to the DLQ, by reason")
    got = run.features()
    f.equal((len(got), got[0]["gender"], got[0]["tags"] == list_at_bound[:1000], got[0]["category"] == "c" * 4096, got[0]["mine"]),
            (1, longest, True, True, 1), "what is at the bound counts; of a list the first are taken")
    f.equal(run.counts("item", longest, "gender"), {longest: 1}, "a bucket's text may be as long")
    f.equal([r["bucket"] == "c" * 4096 for r in run.export("sequences") if r["action"] == "long"], [True], "and so in sequences")


def renamed(f):
    run = Run(f, "renamed", [clicked(1), clicked(2), shown(3), clicked(5), shown(6), shown(9)],
              items=[profile("item", "i", 0, {"category": "shoes"}), profile("item", "i", 4, {"category": "boots"}),
                     profile("item", "i", 3.5, {"category": "older, and too late"}), profile("item", "i", 8, {})])
    f.equal(run.counts("user", "u", "category", "click"), {"shoes": 2, "boots": 1}, "counts stay under the category they had")
    f.equal([(g["category"], g["mine"], g["long"]) for g in run.features()],
            [("shoes", 2, ["i", "i"]), ("boots", 1, ["i"]), (None, 0, [])], "features are of the category at their time")
    clicks = [r for r in run.export("sequences") if r["action"] == "click"][0]["entries"]
    f.equal([e["category"] for e in clicks], ["boots", "shoes", "shoes"], "and so are entries of sequences")


def numbers(f):
    def raw(n, depth):
        return '{"type":"impression","user_id":"u","item_id":"i","timestamp":%d,"context":{"depth":%s}}' % (T + n, depth)

    good = ["-1", "-0.0", "1e-320", "9007199254740993", "1.7976931348623157e308", "0"]
    bad = ["NaN", "Infinity", "-Infinity", "1e999", "0x10", "01", "+1", ".5", "1e"]
    run = Run(f, "numbers", [raw(n, d) for n, d in enumerate(good + bad)])
    f.equal(run.summary["events"], {"impression": len(good)}, "numbers that JSON has are taken")
    f.equal(sum(run.summary["dlq"].values()), len(bad), f"those that it does not have are not: {run.summary['dlq']}")
    got = [g["depth"] for g in run.features()]
    f.check(all(0 <= g < 1000 for g in got), f"log1p of each is finite: {got}")

    users = [profile("user", "u", 0, {"age": -3}),
             *('{"user_id":"u","timestamp":%d,"attributes":{"age":%s}}' % (T + 1, v) for v in ("NaN", "-Infinity", "1e999"))]
    seconds = [{**shown(n, watch_ms=v), "type": "watch"} for n, v in enumerate((-1, -1e18, 5, 0), 3)]
    run = Run(f, "negative", [clicked(0, value=-7.5), shown(1), *seconds], users)
    f.equal(run.summary["dlq"], {"json": 2, "attributes": 1, "watch_ms": 2}, "what is no number, and a negative time, go to the DLQ")
    got = run.features()[0]
    f.equal((got["age"], got["age_log"], got["age_bucket"]), (-3, 0, 0), "a negative number is a number")
    f.equal([r["labels"]["watch_ms"] for r in run.export("samples")], [5], "the times that are none count nowhere")


def nested(f):
    events = [shown(0, context={"a": {"b": 1}}), shown(1, context={"a": [1]}), shown(2, context={"a": None, "depth": True})]
    run = Run(f, "nested", events, [profile("user", "u", 0, {"a": {"b": 1}}), profile("user", "u", 0, {"a": [["x"]]}),
                                    profile("user", "u", 0, {"a": [{"b": "x"}]}), profile("user", "u", 0, {"tags": ["x", 7]})])
    f.equal(run.summary["dlq"], {"field": 2, "attributes": 4}, "what is not flat goes to the DLQ")
    f.equal([g["depth"] for g in run.features()], [0.6931471805599453], "a boolean is a number where one is asked for")


def twice(f):
    events = ['{"type":"click","type":"click","user_id":"u","item_id":"i","timestamp":%d}' % T,
              '{"type":"click","user_id":"u","item_id":"i","timestamp":%d,"context":{"a":1,"a":2}}' % T,
              '{"type":"click","user_id":"u","item_id":"i","timestamp":%d,"x":{"a":1,"a":2}}' % T, clicked(1)]
    users = ['{"user_id":"u","timestamp":%d,"attributes":{"age":1,"age":2}}' % T,
             '{"user_id":"u","timestamp":%d,"timestamp":%d,"attributes":{}}' % (T, T)]
    run = Run(f, "twice", events, users)
    f.equal(run.summary["dlq"], {"json": 4}, "a name that comes twice is no message")
    f.equal(run.summary["events"].get("click"), 2, "but in what is read over")
    f.equal(run.summary["events"].get("user_profile", 0), 0, "neither of a profile")


def main():
    f = Freshet()
    types(f)
    undeclared(f)
    bounds(f)
    renamed(f)
    numbers(f)
    nested(f)
    twice(f)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
