# SPDX-License-Identifier: Apache-2.0
"""One round: runs the program with its crashes, and hands what is left to judge.py."""
import json
import os
import shlex
import shutil
import signal
import subprocess
import time

import draw
from judge import Broken, against_oracle, counts, differing, letters, same, same_exports
from live import Live
from logs import Log

WHAT = "counters", "sequences", "samples"
SECONDS = 120  # a run that takes longer hangs
QUIET = ["--set", "log.level=warn"]
SMALL = {"tables.users.rows": "20k", "tables.items.rows": "20k", "models.ctr.net": "[{name: bottom, mlp: [16], of: all}]"}
KILLS = ("kill", "killafter", "torn")
# A run may end on a full disk only where it cannot begin at all, or where RocksDB's MANIFEST was cut short.
MAY_END_FULL = ("open: ", "MANIFEST-", "cannot create the directory", "cannot make the folder")


def options_of(settings):
    return [o for k, v in settings.items() for o in ("--set", f"{k}={v}")]


class Run:
    """A process that is over: its code, texts, and whether what was planned came true."""

    def __init__(self, code, out, err, fired):
        self.code, self.out, self.err, self.fired = code, out, err, fired

    def may_end_so(self, crash):
        do = crash.get("do", "kill") if crash else None
        if self.code == 0 or (do in KILLS and self.code == -signal.SIGKILL):
            return True
        if self.code != 1 or not self.fired or not self.err.strip():
            return False
        if do == "full":
            return "No space left" in self.err and any(t in self.err for t in MAY_END_FULL)
        return do.isdigit()

    def judge(self, crash):
        if any(t in self.err for t in ("AddressSanitizer", "runtime error:", "Assertion")) or not self.may_end_so(crash):
            raise Broken(f"ended with {self.code} under {crash}: {self.err[-1500:].strip()}")


class Worker(Live):
    """Runs the rounds of one log, one after the other."""

    options_of = staticmethod(options_of)

    def __init__(self, binary, dir):
        self.binary, self.root = binary, dir
        self.shim = os.path.join(os.path.dirname(binary), "libcrash_shim.so")
        self.log_key = self.log = self.files = None
        self.alone = {}  # runs that were left alone, by what decides their result
        self.n = self.rounds = 0
        self.processes = []
        self.hits = []
        self.dir = None

    # ---- a process

    def env(self, dir, plan=None, log=None):
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        if plan is not None:
            env.update(LD_PRELOAD=self.shim, CRASH_DIR=dir, CRASH_LOG=log, CRASH_PLAN=plan)
            env["ASAN_OPTIONS"] = "verify_asan_link_order=0:" + env.get("ASAN_OPTIONS", "")
        return env

    def start(self, argv, crash, state):
        """A process under a crash: (Popen, the log of the shim, the file that makes room)."""
        self.n += 1
        log, room = (os.path.join(self.dir, f"{kind}-{self.n}") for kind in ("shim", "room"))
        plan = None
        if crash is not None and "moment" not in crash:
            plan = ",".join(f"{k}={v}" for k, v in crash.items() if k not in ("room", "moment")) + f",until={room}"
        err = open(os.path.join(self.dir, f"{self.n}.err"), "wb")
        out = open(os.path.join(self.dir, f"{self.n}.out"), "wb")
        with open(os.path.join(self.dir, "commands"), "a") as f:
            f.write(f"CRASH_PLAN='{plan or ''}' CRASH_DIR={state} LD_PRELOAD={self.shim} {shlex.join(argv)} # {self.n}\n")
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=self.env(state, plan, log))
        p.paths = out.name, err.name
        p.shim_log, p.room = log, room
        out.close()
        err.close()
        return p

    def fired(self, p):
        if not os.path.exists(p.shim_log):
            return False
        with open(p.shim_log) as f:
            return f.read().startswith("fired")

    def ended(self, p, crash):
        texts = []
        for path in p.paths:
            with open(path, errors="replace") as f:
                texts.append(f.read())
        run = Run(p.returncode, *texts, self.fired(p))
        if run.fired or (crash is not None and "moment" in crash and run.code == -signal.SIGKILL):
            self.hits.append(draw.what(crash))
        run.judge(crash)
        return run

    def wait_room(self, p, crash, deadline):
        """The disk stays full for a while, then there is room."""
        while p.poll() is None and not self.fired(p):
            if time.monotonic() > deadline:
                return
            time.sleep(0.005)
        try:
            p.wait(crash["room"])
        except subprocess.TimeoutExpired:
            pass
        open(p.room, "w").close()

    def execute(self, argv, crash, state, seconds=1.0):
        """The program to its end."""
        p = self.start(argv, crash, state)
        try:
            if crash is not None and "moment" in crash:
                try:
                    p.wait(crash["moment"] * seconds)
                except subprocess.TimeoutExpired:
                    p.kill()
            elif crash is not None and crash["do"] == "full":
                self.wait_room(p, crash, time.monotonic() + SECONDS)
            p.wait(SECONDS)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            raise Broken(f"hangs under {crash}: {' '.join(argv)}")
        return self.ended(p, crash)

    def command(self, *argv):
        r = subprocess.run([self.binary, *argv], capture_output=True, text=True, timeout=SECONDS, env=self.env(None))
        if r.returncode != 0:
            raise Broken(f"{' '.join(argv[:2])}: exit {r.returncode}: {r.stderr[-1500:]}{r.stdout[-500:]}")
        return r.stdout

    # ---- what a run leaves

    def digests(self, state, settings):
        return json.loads(self.command("digest", "--state", state, *options_of(settings)))

    def exports(self, state, settings):
        return {what: self.command("export", what, "--state", state, *options_of(settings)) for what in WHAT
                if what != "samples" or settings["state.samples_keep"] == "0s"}

    # ---- the run that is left alone

    def files_argv(self, state, settings, flush, files=None):
        events, users, items = files or self.files
        argv = [self.binary, "replay", "--state", state, *QUIET, *options_of(settings)]
        for option, paths in (("--events", events), ("--users", users), ("--items", items)):
            for path in paths:
                argv += [option, path]
        return argv + ["--flush"] * flush

    def left_alone(self, settings, flush):
        key = json.dumps([settings, flush], sort_keys=True)
        if key not in self.alone:
            state = os.path.join(self.root, f"alone-{len(self.alone)}")
            begin = time.monotonic()
            run = self.execute(self.files_argv(state, settings, flush), None, state)
            seconds = time.monotonic() - begin
            result = {"summary": json.loads(run.out), "digest": self.digests(state, settings),
                      "exports": self.exports(state, settings), "seconds": seconds}
            against_oracle(settings, flush, self.log.good, result["summary"], result["exports"])
            shutil.rmtree(state)
            self.alone[key] = result
        return self.alone[key]

    # ---- a round

    def prepare(self, r):
        self.n, self.rounds, self.hits = 0, self.rounds + 1, []
        self.dir = os.path.join(self.root, f"round-{self.rounds}")
        os.makedirs(self.dir)
        key = json.dumps([r["log"], r["parts"], r["bad"], r.get("profiles")])
        if key != self.log_key:
            self.log_key, self.log, self.alone = key, Log(self.binary, r), {}
            self.files = self.log.write(os.path.join(self.root, "log"))

    def run(self, r):
        self.prepare(r)
        settings = {**SMALL, **r["settings"]}
        if r["way"] == "live":
            self.live_round(r, settings)
        else:
            self.files_round(r, settings)

    def files_round(self, r, settings):
        state = os.path.join(self.dir, "state")
        alone = self.left_alone(settings, True)
        all = {**settings, **r["physical"]}
        crashes = list(r["crashes"])
        if "cut" in r:
            self.head_run(r["cut"], state, all, crashes)
        summary = self.through(self.files_argv(state, all, True), crashes, state, alone["seconds"])
        same(counts(alone["summary"]), counts(summary), "counts")
        same(alone["digest"], summary["digest"], "digests of the summary")
        same(alone["digest"], self.digests(state, settings), "digests")
        same_exports(alone["exports"], self.exports(state, settings))
        self.letters_of_files(state)
        if r.get("as_committed") and settings["state.samples_keep"] == "0s":
            self.through(self.files_argv(state, all, True), [], state, 0)  # everything was read: this changes nothing
            self.as_committed(state, all)
            same(alone["digest"], self.digests(state, settings), "digests after another run, and after --as-committed,")

    def through(self, argv, crashes, state, seconds):
        """Until the log is done: each run has the next crash. The summary of the last one."""
        for crash in crashes:
            self.execute(argv, crash, state, seconds)
        run = self.execute(argv, None, state)
        return json.loads(run.out)

    def head_run(self, cut, state, settings, crashes):
        """The first half of the crashes meets a file that will grow."""
        path = os.path.join(self.dir, "events-0.jsonl")
        lines = self.log.parts[0]
        with open(path, "w") as f:
            f.write("".join(line + "\n" for line in lines[:int(len(lines) * cut)]))
        argv = self.files_argv(state, settings, False, ([path], self.files[1], self.files[2]))
        for _ in range((len(crashes) + 1) // 2):
            self.execute(argv, crashes.pop(0), state, 0.1)
        self.execute(argv, None, state)

    def as_committed(self, state, settings, *more):
        """The recorded order again, from the files, or from what `more` says."""
        argv = [self.binary, "replay", "--state", state, *QUIET, *options_of(settings), *more]
        r = subprocess.run((argv if more else self.files_argv(state, settings, False)) + ["--as-committed"],
                           capture_output=True, text=True, timeout=SECONDS, env=self.env(None))
        for kind, text in ("out", r.stdout), ("err", r.stderr):
            with open(os.path.join(self.dir, "as-committed." + kind), "w") as f:
                f.write(text)
        if r.returncode != 0:
            both = json.loads(r.stdout) if r.stdout.startswith("{") else {}
            raise Broken(f"--as-committed: {r.stderr.strip()[-500:]}: "
                         + "; ".join(differing(both.get("committed"), both.get("replayed"))))

    # ---- dead letters

    def letters_of_files(self, state):
        got = []
        for root, _, names in os.walk(os.path.join(state, "outbox")):
            for name in names:
                with open(os.path.join(root, name)) as f:
                    text = f.read()
                if text and not text.endswith("\n"):
                    raise Broken(f"{name} ends within a line")
                got += [json.loads(line) for line in text.splitlines()]
        offsets = self.log.offsets()
        letters({(p, offsets[p, i]): line for (p, i), line in self.log.lettered.items()},
                [(row["headers"], row["value"]) for row in got])

    # ---- the end

    def done(self, keep):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
            p.wait()
        self.processes = []
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)
