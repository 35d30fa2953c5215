#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""MovieLens as a click-through task, by the protocol of EasyRec's published figures (ml-1m: AUC .8616 MLP, .8770 DCN
V2, .8893 FiBiNET): ratings above 3 are clicks, those of 3 are left out; shuffled, nine tenths train in one pass, the
rest is predicted. Features are user, movie, occupation, age, gender, year and genres, 16 numbers each.

    movielens.py FRESHET DIR [PRESET...]    DIR holds ratings.dat, users.dat, movies.dat of ml-1m
    movielens.py FRESHET --small [...]      MovieLens latest-small of Debian's r-cran-dslabs: no features of users

Every rating is an impression, and a click where it is one, in the order of the shuffle and not of the ratings: the
first day of event time trains, the second is predicted. `freshet replay` does both: all layers train until the
bootstrap ends with the first day, so `after_bootstrap` is the held-out part.
"""
import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import rdata  # noqa: E402

DAY, BEGIN, STEP = 86400000, 1767225600000, 10  # ms
PUBLISHED = {"mlp": 0.8616, "dcn_v2": 0.8770, "fibinet": 0.8893}
# Their widths: see EasyRec's examples/configs/*_on_movielens.config.
NETS = {"mlp": {"preset": "mlp", "with": {"widths": [256, 256]}},
        "dcn_v2": {"net": [{"name": "cross", "dcn_v2": 3, "of": "all"},
                           {"name": "deep", "mlp": [256, 128, 64], "of": "all"},
                           {"name": "top", "mlp": [64, 32, 16], "of": ["cross", "deep"]}],
                   "heads": {"click": {"of": "top"}}},
        "fibinet": {"preset": "fibinet",
                    "with": {"fields": "all", "bilinear": "each", "reduction": 4, "widths": [512, 256]}}}


# ---- data

class Missing(Exception):
    """What the data needs is not there, or is something else."""


def rows_of(folder, name, form):
    """Of one of the three files; `form` is how ml-1m's README has its lines."""
    path = os.path.join(folder, name)
    rows = []
    try:
        with open(path, encoding="latin-1") as file:
            for i, line in enumerate(file, 1):
                rows.append(line.rstrip("\r\n").split("::"))
                if len(rows[-1]) != len(form.split("::")):
                    raise Missing(f"{path}:{i}: {line.strip()[:60]!r} is no {form} of ml-1m")
    except OSError as wrong:
        raise Missing(f"{wrong}: ratings.dat, users.dat and movies.dat of ml-1m are needed") from wrong
    if not rows:
        raise Missing(f"{path} is empty")
    return rows


def rating_of(row, users, movies):
    if row[0] not in users or row[1] not in movies:
        raise Missing(f"ratings.dat: a rating of user {row[0]} and movie {row[1]}, but users.dat and movies.dat do not have "
                      "both: the three files must be of one data set")
    try:
        return row[0], row[1], float(row[2])
    except ValueError as wrong:
        raise Missing(f"ratings.dat: user {row[0]}, movie {row[1]}: the rating is {row[2]!r}, which is no number") from wrong


class Task:
    """ratings: (user, movie, clicked), shuffled; attributes of users and movies by id."""

    def __init__(self, folder, seed=1):
        ratings = rows_of(folder, "ratings.dat", "UserID::MovieID::Rating::Timestamp")
        self.users = {r[0]: self.user(r) for r in
                      rows_of(folder, "users.dat", "UserID::Gender::Age::Occupation::Zip-code")}
        self.movies = {r[0]: self.movie(r) for r in rows_of(folder, "movies.dat", "MovieID::Title::Genres")}
        rows = [rating_of(r, self.users, self.movies) for r in ratings]
        self.ratings = [(user, movie, rating > 3) for user, movie, rating in rows if rating != 3]
        random.Random(seed).shuffle(self.ratings)
        self.n_train = len(self.ratings) * 9 // 10

    @staticmethod
    def user(row):
        return {name: value for name, value in zip(("gender", "age", "job"), row[1:4]) if value}

    @staticmethod
    def movie(row):
        year = re.search(r"\((\d{4})\)\s*$", row[1])
        return {**({"year": year[1]} if year else {}), "genres": row[2].split("|")}


def unpacked_dslabs(folder):
    """Debian's r-cran-dslabs, which needs no installing: only its data are read, and R is not."""
    database = "usr/lib/R/site-library/dslabs/data/Rdata"
    if os.path.exists("/" + database + ".rdb"):
        return "/" + database
    if not shutil.which("apt-get"):
        raise Missing("MovieLens latest-small comes with Debian's r-cran-dslabs, and there is no apt-get")
    r = subprocess.run(["apt-get", "-q", "download", "r-cran-dslabs"], cwd=folder, capture_output=True, text=True,
                       timeout=300)
    packages = [name for name in os.listdir(folder) if name.endswith(".deb")]
    if r.returncode or not packages:
        raise Missing("apt-get download r-cran-dslabs: " + (r.stderr.strip().splitlines() or ["failed"])[-1])
    subprocess.run(["dpkg-deb", "-x", packages[0], "."], cwd=folder, check=True)
    return os.path.join(folder, database)


def put_small(folder):
    """MovieLens latest-small in the three files of ml-1m; of its users nothing is known."""
    frame = rdata.Database(unpacked_dslabs(folder)).frame("movielens")
    movies = {}
    with open(os.path.join(folder, "ratings.dat"), "w", encoding="latin-1") as to:
        for i, movie in enumerate(frame["movieId"]):
            title, year = frame["title"][i] or "", frame["year"][i]
            movies[movie] = f"{title} ({year})::{frame['genres'][i]}"
            to.write(f"{frame['userId'][i]}::{movie}::{frame['rating'][i]}::{frame['timestamp'][i]}\n")
    with open(os.path.join(folder, "movies.dat"), "w", encoding="latin-1", errors="replace") as to:
        to.writelines(f"{movie}::{text}\n" for movie, text in movies.items())
    with open(os.path.join(folder, "users.dat"), "w", encoding="latin-1") as to:
        to.writelines(f"{user}::::::::\n" for user in sorted(set(frame["userId"])))


# ---- events and config

def put_profiles(path, key, profiles):
    with open(path, "w") as to:
        for name, attributes in profiles.items():
            to.write(json.dumps({key: name, "timestamp": BEGIN - 1000, "attributes": attributes}) + "\n")


def put_events(folder, task):
    put_profiles(os.path.join(folder, "users.jsonl"), "user_id", task.users)
    put_profiles(os.path.join(folder, "items.jsonl"), "item_id", task.movies)
    if task.n_train * STEP > DAY - 60000:
        raise SystemExit("more ratings than fit into a day")
    with open(os.path.join(folder, "events.jsonl"), "w") as to:
        for i, (user, movie, clicked) in enumerate(task.ratings):
            at = BEGIN + i * STEP if i < task.n_train else BEGIN + DAY + (i - task.n_train) * STEP
            event = f'"user_id":"{user}","item_id":"{movie}","timestamp":{at}'
            to.write(f'{{"type":"impression",{event}}}\n')
            if clicked:
                to.write(f'{{"type":"click",{event}}}\n')


def config(task, net, seed, batch=1024, adam=False):
    known = {name for attributes in task.users.values() for name in attributes}
    features = {"user": {"id": "user", "table": "users"}, "movie": {"id": "item", "table": "movies"}}
    features |= {name: {"id": f"user.{name}", "table": name} for name in ("job", "age", "gender") if name in known}
    features |= {"year": {"id": "item.year", "table": "year"},
                 "genres": {"ids": "item.genres", "table": "genres", "last": 10}}
    rows = {"users": 20000, "movies": 20000}
    optimizer = {"optimizer": "adam", "lr": 0.001} if adam else {}
    dense = {"dense_lr": 0.001, "dense": {"optimizer": "adam"}} if adam else {}
    return {"features": features,
            "tables": {f["table"]: {"dim": 16, "rows": rows.get(f["table"], 1000), **optimizer} for f in features.values()},
            "models": {"ctr": net},
            "update": {"every": "1d", "batch": batch, "seed": seed, "bootstrap": {"samples": task.n_train}, **dense},
            "join": {"window": "1s", "labels": {"click": {}}},
            "stream": {"time": {"out_of_order": "0s"}},
            "sequences": {"click": {"last": 0}},
            "counters": {"windows": ["1h"]},
            "dedupe": {"window": "0s"}}


# ---- a run

def trained(freshet, folder, settings, more=()):
    """Writes folder/config.json, trains, and gives the summary of the replay."""
    path = os.path.join(folder, "config.json")
    with open(path, "w") as to:
        json.dump(settings, to)
    argv = [freshet, "replay", "-c", path, "--flush", *more]
    for name in ("events", "users", "items"):
        argv += [f"--{name}", os.path.join(folder, name + ".jsonl")]
    r = subprocess.run(argv, capture_output=True, text=True)
    if r.returncode:
        raise SystemExit(f"freshet replay: {r.stderr.strip()}")
    return json.loads(r.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("freshet")
    parser.add_argument("folder", nargs="?")
    parser.add_argument("presets", nargs="*", help=", ".join(NETS))
    parser.add_argument("--small", action="store_true", help="MovieLens latest-small in place of a folder")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--adam", action="store_true", help="Adam at 0.001 as there, in place of Adagrad")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the config, for all")
    args = parser.parse_intermixed_args()
    if args.small and args.folder:
        args.presets.insert(0, args.folder)
    wrong = [name for name in args.presets if name not in NETS]
    if wrong or not (args.small or args.folder):
        parser.error(f"no net {wrong[0]}: {', '.join(NETS)}" if wrong else "the folder of ml-1m, or --small")
    more = [word for setting in args.set for word in ("--set", setting)]
    with tempfile.TemporaryDirectory(prefix="movielens-") as folder:
        try:
            if args.small:
                put_small(folder)
            task = Task(folder if args.small else args.folder)
        except Missing as why:
            raise SystemExit(str(why)) from why
        put_events(folder, task)
        print(f"{task.n_train} ratings to train, {len(task.ratings) - task.n_train} held out")
        print(f"{'':10} {'AUC':>8} {'NE':>8}" + ("" if args.small else f" {'published':>10}"))
        for name in args.presets or NETS:
            for seed in range(1, args.seeds + 1):
                settings = config(task, NETS[name], seed, args.batch, args.adam)
                held_out = trained(args.freshet, folder, settings, more)["metrics"]["click"]["after_bootstrap"]
                print(f"{name:10} {held_out['auc']:8.4f} {held_out['ne']:8.4f}" +
                      ("" if args.small else f" {PUBLISHED[name]:10.4f}"), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
