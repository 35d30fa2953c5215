#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# MovieLens latest-small, from Debian's r-cran-dslabs, by the protocol of the published ml-1m figures
# (tests/movielens/): each net trained by freshet and by its PyTorch twin from three seeds of their own, AUC of the
# held-out tenth equal within the seeds' spread; and from the same beginning, equal. Needs torch and the package's data.
# argv[1]: the freshet binary.
import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "twin"), os.path.join(HERE, "..", "movielens")]
import where  # noqa: E402

where.with_torch(sys.argv)
import movielens  # noqa: E402
import torch  # noqa: E402
import twin  # noqa: E402
from harness import Freshet  # noqa: E402

# Rounding alone moves the AUC by 0.001 to 0.003: where the sums of Adagrad begin at 0, the first step of a weight has
# the size of the learning rate, whatever its gradient. Over 25 seeds the AUC of mlp is .8456 (s.d. .0011), the twin's
# .8457 (.0014); three seeds that happen to lie together say less than FLOOR.
SEEDS, SAME, FLOOR, BATCH = (11, 12, 13), 4e-3, 4e-3, 256


def mean(x):
    return sum(x) / len(x)


def beside(f, task, name):
    ours, theirs, pair = [], [], None
    for seed in SEEDS:
        state = f.path(name)
        told = movielens.trained(f.binary, f.dir, movielens.config(task, movielens.NETS[name], seed, BATCH),
                                 ["--state", state])
        ours.append(told["metrics"]["click"]["after_bootstrap"]["auc"])
        if pair is None:
            pair = twin.Pair(twin.Freshet(f.binary, f.path("config.json"), state), "ctr")
            same = pair.trained(task.n_train)["train"]["click"]["after_bootstrap"]
            f.check(abs(same - ours[0]) <= SAME, f"{name}: AUC {ours[0]:.5f}, PyTorch from the same beginning {same:.5f}")
        shutil.rmtree(state)
        theirs.append(pair.trained_anew(seed, task.n_train)["click"]["after_bootstrap"])
    spread = max(max(x) - min(x) for x in (ours, theirs))
    apart = abs(mean(ours) - mean(theirs))
    text = lambda x: ", ".join(f"{v:.4f}" for v in x)
    f.check(apart <= max(spread, FLOOR), f"{name}: AUC {text(ours)}; PyTorch {text(theirs)}: means {apart:.4f} apart, of a spread "
                             f"of {spread:.4f} over the seeds")


def put_few(folder):
    """Files as those of ml-1m, with what latest-small has not: features of users."""
    for name, rows in (("users", ["1::F::1::10::48067", "2::M::56::16::70072"]),
                       ("movies", ["1::Toy Story (1995)::Animation|Children's|Comedy", "2::Il Cinema (2001) (1954)::Drama"]),
                       ("ratings", ["1::1::5::978300760", "1::2::3::978302109", "2::1::1::978301968", "2::2::4::9783"])):
        with open(os.path.join(folder, name + ".dat"), "w", encoding="latin-1") as to:
            to.write("\n".join(rows) + "\n")


def refuses(f):
    """Files that are not ml-1m's three."""
    folder = f.path("wrong")
    for name, text, words in (("ratings", "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n", "ratings.dat:1: "),
                              ("ratings", "", "is empty"), ("ratings", "1::1::five::9\n", "'five', which is no number"),
                              ("ratings", "9::1::5::9\n", "of one data set"),
                              ("users", "1::Toy Story (1995)::Comedy\n", "users.dat:1: "),
                              ("movies", None, "No such file")):
        os.makedirs(folder)
        put_few(folder)
        path = os.path.join(folder, name + ".dat")
        if text is None:
            os.unlink(path)
        else:
            with open(path, "w") as to:
                to.write(text)
        try:
            movielens.Task(folder)
            f.check(False, f"{name}.dat with {text!r} is taken")
        except movielens.Missing as why:
            f.check(words in str(why), f"{name}: {why}")
        shutil.rmtree(folder)


def protocol(f):
    folder = f.path("few")
    os.mkdir(folder)
    put_few(folder)
    task = movielens.Task(folder)
    f.equal((sorted(task.ratings), task.n_train), ([("1", "1", True), ("2", "1", False), ("2", "2", True)], 2),
            "above 3 is a click, 3 is left out, nine tenths train")
    f.equal((task.users["1"], task.movies["2"]),
            ({"gender": "F", "age": "1", "job": "10"}, {"year": "1954", "genres": ["Drama"]}), "users and movies")
    movielens.put_events(folder, task)
    for name, net in movielens.NETS.items():
        told = movielens.trained(f.binary, folder, movielens.config(task, net, 1, adam=True))
        f.equal((told["samples"], told["metrics"]["click"]["after_bootstrap"]["samples"]), (3, 1),
                f"{name}: what is held out is predicted after the bootstrap")


def main():
    f = Freshet()
    protocol(f)
    refuses(f)
    torch.set_num_threads(1)
    try:
        movielens.put_small(f.dir)
    except movielens.Missing as why:
        print(why)
        return 77
    task = movielens.Task(f.dir)
    f.equal((len(task.ratings), len(task.users), len(task.movies)), (79940, 671, 9066), "ratings, users, movies")
    movielens.put_events(f.dir, task)
    for name in sys.argv[2:] or movielens.NETS:
        beside(f, task, name)
    return f.summary()


if __name__ == "__main__":
    sys.exit(main())
