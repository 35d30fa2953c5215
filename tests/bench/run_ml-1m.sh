#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# AUC of MovieLens by the published ml-1m protocol: DIR with its three files, or latest-small from Debian
#
#   scripts/bench ml-1m DIR [PRESET...]   ratings.dat, users.dat and movies.dat of ml-1m
#   scripts/bench ml-1m [--seeds N] ...   MovieLens latest-small; tests/movielens/movielens.py --help says more
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${1:-} in
'' | -*) exec python3 tests/movielens/movielens.py build/freshet --small "$@" ;;
*) exec python3 tests/movielens/movielens.py build/freshet "$@" ;;
esac
