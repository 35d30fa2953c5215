#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random configs and logs (cases.py) through `freshet replay` and through the batch oracle: campaign.py FRESHET SEED..

A SEED may be a range, as 1-200. Of each, every row of every export is compared with the oracle's, and the counts of the
summary; then the log is replayed in small commits with small caches, killed and begun again, and where it has one
partition in pieces: the digests must be the same. The order as it was committed is replayed, too.

A seed that fails is halved until nothing more can go, and what is left is written to --keep DIR (default: campaign-SEED in
the current directory): case.json, the config, the files, and the command. `--case FILE` runs such a case.json again, or all
of a file with one a line: found.jsonl has what was found once.
"""
import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from batch import Batch, options_of  # noqa: E402
from cases import case  # noqa: E402
from compare import compare  # noqa: E402

WHAT = "counters", "sequences", "samples"
COUNTS = ("duplicates", "late", "orphans", "after_window", "late_labels", "negatives_dropped", "positives_thinned",
          "left_early", "forgotten_early", "at", "lengths_missing")


class Refused(Exception):
    """The config is none: the case says nothing."""


class Trial:
    """A case in a directory."""

    def __init__(self, binary, case, dir):
        self.binary, self.case, self.dir = binary, case, dir
        self.config = self.write("config.json", json.dumps(case["config"], indent=1))
        self.files = [self.write(f"events-{n}.jsonl", self.lines(p)) for n, p in enumerate(case["parts"])]
        self.users, self.items = (self.write(f"{s}.jsonl", self.lines(case[s])) for s in ("users", "items"))

    def lines(self, of):
        return "".join(line + "\n" for line in of)

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as to:
            to.write(text)
        return path

    def argv(self, state, *more, settings=None):
        files = [x for f in self.files for x in ("--events", f)]
        sets = [x for k, v in (settings or {}).items() for x in ("--set", f"{k}={v}")]
        return [self.binary, "replay", "-c", self.config, *files, "--users", self.users, "--items", self.items, "--state",
                os.path.join(self.dir, state), "--dlq", os.path.join(self.dir, "dlq"), *sets, *more]

    def run(self, argv):
        r = subprocess.run(argv, capture_output=True, text=True, timeout=300)
        if r.returncode == 78:
            raise Refused(r.stderr.strip())
        if r.returncode != 0:
            raise RuntimeError(f"exit {r.returncode}: {' '.join(argv)}: {r.stderr[-1500:]}")
        return r.stdout

    def replay(self, state, *more, settings=None):
        return json.loads(self.run(self.argv(state, *more, settings=settings)))

    def exported(self, what, state, *more):
        out = self.run([self.binary, "export", what, "-c", self.config, "--state", os.path.join(self.dir, state), *more])
        return [json.loads(line) for line in out.split("\n") if line]

    # ---- against the oracle

    def learned(self):
        """Features with edges that training makes, and crosses of them."""
        ret = set()
        for name, f in self.case["config"]["features"].items():
            if isinstance(f.get("bucketize"), dict) or ret & set(f.get("cross", [])):
                ret.add(name)
        return ret if self.case["config"]["update"]["enabled"] else set()

    def hide(self, past, rows):
        """An item that has vanished is null, unless its id is the text of something else that is remembered."""
        def gone(id):
            return None if id and id not in past.seen["item"] else id

        sequences = [n for n, s in past.sequences_of_items().items() if s["keep"] == "item"]
        for row in rows:
            for entry in row.get("entries", []):
                if "item_id" in entry:
                    entry["item_id"] = gone(entry["item_id"])
            for name in sequences:
                if name in row.get("features", {}):
                    row["features"][name] = [gone(id) for id in row["features"][name]]

    def good(self, lines):
        return [line for line in lines if line.strip() and is_event(line, self.case["config"])]

    def oracle(self):
        b = Batch(options_of(self.case["config"]))
        return b.run([self.good(p) for p in self.case["parts"]], self.case["users"], self.case["items"])

    def against_oracle(self):
        summary, batch, texts = self.replay("whole", "--flush"), self.oracle(), []
        self.summary = summary
        for key in COUNTS:
            if summary[key] != getattr(batch, key):
                texts.append(f"{key}: {getattr(batch, key)} wanted, {summary[key]} got")
        for key, wanted in ("profile_conflicts", batch.past.conflicts), ("sequences_skipped", batch.past.skipped):
            if summary[key] != wanted:
                texts.append(f"{key}: {wanted} wanted, {summary[key]} got")
        learned, self.rows = self.learned(), 0
        for what in WHAT:
            wanted, got = list(batch.rows(what)), self.exported(what, "whole")
            if what == "samples":
                for row in wanted + got:
                    row["features"] = {k: v for k, v in row["features"].items() if k not in learned}
            self.hide(batch.past, got)
            equal, differ = compare(what, wanted, got)
            self.rows += equal
            texts += differ[:5]
        at = self.case["at"]
        then = "--at", f"{at // 1000}.{at % 1000:03d}" if at < 100_000_000_000 else str(at)
        equal, differ = compare("counters", batch.counter_rows(at), self.exported("counters", "whole", *then))
        self.rows += equal
        return texts + [f"at {at}: {t}" for t in differ[:5]]

    # ---- against itself

    def same(self, name, summary, offsets=True):
        got, wanted = summary["digest"], self.summary["digest"]
        return [f"{name}: digest of {k}: {wanted[k]} whole, {got.get(k)} then" for k in wanted
                if got.get(k) != wanted[k] and (offsets or k != "offsets")]

    def killed(self):
        """Killed three times within what one run takes, and gone on with."""
        argv = self.argv("killed", "--flush", settings=self.case["settings"])
        for share in self.case["cuts"][:3]:
            p = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                if p.wait(share * self.seconds):
                    return [f"killed: a run ended with {p.returncode}"]
                return []  # it was faster
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        return self.same("killed", json.loads(self.run(argv)))

    def pieces(self):
        """A file that grows, with profiles that have all come: their order must not depend on the cuts."""
        part = self.case["parts"][0]
        at = [int(share * len(part)) for share in self.case["cuts"]] + [len(part)]
        for n in at:
            self.write("events-0.jsonl", self.lines(part[:n]))
            last = self.replay("pieces", *(["--flush"] if n == len(part) else []), settings=self.case["settings"])
        return self.same("pieces", last)

    def against_itself(self):
        began = time.monotonic()
        texts = self.same("small commits", self.replay("small", "--flush", settings=self.case["settings"]))
        self.seconds = time.monotonic() - began
        texts += self.killed()
        again = subprocess.run([x for x in self.argv("small", "--as-committed") if x != "--flush"], capture_output=True, text=True)
        if again.returncode != 0:
            texts.append(f"as committed: exit {again.returncode}: {again.stdout[:300]} {again.stderr[-300:]}")
        if len(self.case["parts"]) == 1 and not self.case["users"] and not self.case["items"]:
            texts += self.pieces()
        return texts


def is_event(line, config):
    try:
        e = json.loads(line)
    except ValueError:
        return False
    return (isinstance(e, dict) and "timestamp" in e and e["type"] != "nothing" and not isinstance(e["user_id"], float))


def judge(binary, case):
    """What is wrong with a case, as texts, and the number of equal rows."""
    dir = tempfile.mkdtemp(prefix="freshet-campaign-")
    try:
        trial = Trial(binary, case, dir)
        texts = trial.against_oracle()
        return texts + trial.against_itself(), trial.rows
    except RuntimeError as e:
        return [str(e)], 0
    finally:
        shutil.rmtree(dir, ignore_errors=True)


# ---- making it small ---------------------------------------------------------------------------------------

def kind(texts):
    """What a failure is about, so that shrinking stays with it."""
    words = texts[0].split()
    return " ".join(words[:1] + [w for w in words if w.startswith("exit") or w == "digest"])


def halves(size):
    """(begin, end) of what may go: halves, quarters, ... single ones."""
    step = size
    while step >= 1:
        yield from ((at, min(at + step, size)) for at in range(0, size, step))
        step //= 2


def smaller(case):
    """Cases with less in them, the smallest first."""
    for key in ["users", "items", *range(len(case["parts"]))]:
        of = case["parts"][key] if isinstance(key, int) else case[key]
        for begin, end in halves(len(of)):
            c = copy.deepcopy(case)
            (c["parts"] if isinstance(key, int) else c)[key] = of[:begin] + of[end:]
            yield c
    for section in "features", "sequences", "buckets", "join", "dedupe", "state":
        for name in case["config"].get(section, {}):
            c = copy.deepcopy(case)
            del c["config"][section][name]
            yield c
    for of in "item", "user", "all":
        for n in range(len(case["config"]["counters"][of]["by"])):
            c = copy.deepcopy(case)
            del c["config"]["counters"][of]["by"][n]
            yield c
    if len(case["parts"]) > 1:
        for n in range(len(case["parts"])):
            c = copy.deepcopy(case)
            del c["parts"][n]
            yield c


def shrink(binary, case, texts, seconds):
    until, what = time.monotonic() + seconds, kind(texts)
    while True:
        for c in smaller(case):
            if time.monotonic() > until:
                return case, texts
            try:
                now, _ = judge(binary, c)
            except Exception:
                continue
            if now and kind(now) == what:
                case, texts = c, now
                break
        else:
            return case, texts


def keep(binary, case, texts, dir):
    shutil.rmtree(dir, ignore_errors=True)
    os.makedirs(dir)
    trial = Trial(binary, case, dir)
    trial.write("case.json", json.dumps(case, indent=1))
    trial.write("differs", "\n".join(texts) + "\n")
    trial.write("command", " ".join(trial.argv("state", "--flush")) + "\n")
    print(f"      {sum(map(len, case['parts']))} events, {len(case['config'].get('features', {}))} features left: {dir}")


def one(binary, given, a):
    """True if nothing differs."""
    try:
        texts, rows = judge(binary, given)
    except Refused as e:
        print(f"REFUSED  {given['seed']}: {e}", flush=True)
        return False
    if not texts:
        if not a.quiet:
            print(f"ok    {given['seed']}: {rows} rows", flush=True)
        return True
    print(f"FAIL  {given['seed']}:\n        " + "\n        ".join(texts[:8]), flush=True)
    if a.shrink:
        given, texts = shrink(binary, given, texts, a.shrink)
        print("      small: " + "\n        ".join(texts[:3]), flush=True)
    if a.keep or a.shrink:
        keep(binary, given, texts, os.path.join(a.keep or ".", f"campaign-{given['seed']}"))
    return False


def seeds(texts):
    for text in texts:
        first, _, last = text.partition("-")
        yield from range(int(first), int(last or first) + 1)


def cases_of(path):
    with open(path) as f:
        text = f.read()
    return [json.loads(line) for line in text.splitlines()] if path.endswith(".jsonl") else [json.loads(text)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("freshet")
    p.add_argument("seed", nargs="*")
    p.add_argument("--case", action="append", default=[])
    p.add_argument("--shrink", type=int, default=120, help="seconds for making a failure small; 0: not at all")
    p.add_argument("--keep", help="where failures are kept")
    p.add_argument("--quiet", action="store_true", help="only what fails")
    a = p.parse_intermixed_args()
    binary, given = os.path.abspath(a.freshet), (case(s) for s in seeds(a.seed))
    kept = (c for f in a.case for c in cases_of(f))
    results = [one(binary, c, a) for of in (kept, given) for c in of]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
