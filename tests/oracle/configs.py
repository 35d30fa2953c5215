# SPDX-License-Identifier: Apache-2.0
"""Configs that use all of what counters, buckets, sequences and features can be, for comparisons with the oracle: Python
values, which are JSON and so YAML."""

# Attributes are declared, so that a value of another type is none.
RICH = {
 "stream": {"users": {"attributes": {"gender": "string", "age": "number", "city": "string", "vip": "boolean", "tags": "list"}},
            "items": {"birth": "created_at", "attributes": {"category": "string", "author": "string", "created_at": "number", "tags": "list", "price": "number"}}},
 "buckets": {"age": {"of": "user.age", "edges": [18, 25, 35, 45]}, "geo": {"of": "context.geo", "prefix": 4},
             "place": {"geohash": ["context.lat", "context.lon"], "precision": 5}, "hour": {"hour": "timestamp", "offset": -3.5},
             "day": {"weekday": "timestamp"}, "price": {"of": "item.price", "edges": [0, 20]}, "town": {"of": "user.city"}},
 "counters": {"windows": ["1h", "1d", {"name": "3d", "tile": "1h", "length": "3d"}], "totals": True,
   "item": {"by": ["gender", "age", "hour", "context.device", "geo", "place", "vip", "town"]},
   "user": {"by": ["category", "author", "price", "day", "context.depth"]},
   "all": {"by": ["category", "item.author", "age"]}},
 "sequences": {"all": {"last": 40, "with": ["category", "author", "dwell"]},
   "click": {"last": 20, "with": ["category", "author", "dwell"], "remove_on": ["dislike"]},
   "follows": {"of": "follow", "keep": "item.author", "unique": True, "last": 5, "remove_on": ["dislike"]},
   "recent": {"of": ["click", "like", "watch"], "unique": True, "last": 7, "with": ["dwell"], "remove_on": ["dislike", "share"]},
   "long": {"of": ["click", "like", "watch"], "last": 500, "by": "item.category", "with": ["author"], "remove_on": ["dislike"]},
   "bydevice": {"of": ["click", "like"], "last": 10, "by": "context.device"}},
 "join": {"labels": {"all": {}, "completion": {"of": "watch", "length": "whole"}}},
 "features": {
   "whole": {"number": "item.price"}, "user_id": {"id": "user", "table": "users"}, "item_id": {"id": "item", "hash": 1000},
   "gender": {"id": "user.gender"}, "age_id": {"id": "user.age"}, "vip": {"id": "user.vip"}, "device": {"id": "context.device"}, "depth_id": {"id": "context.depth"},
   "age": {"number": "user.age"}, "age_log": {"number": "user.age", "log1p": True, "missing": -7}, "age_b": {"number": "user.age", "bucketize": [18, 25, 40]},
   "age_z": {"number": "user.age", "bucketize": [18, 25, 40], "missing": "zero"}, "price": {"number": "item.price", "missing": "zero"}, "price_q": {"number": "item.price", "bucketize": {"quantiles": 5}},
   "hour": {"hour": "timestamp", "offset": 5.5}, "day": {"weekday": "timestamp"},
   "n1": {"count": "click", "of": "item", "by": "gender", "window": "1h"}, "n2": {"count": "watch_ms", "of": "user", "by": "category", "window": "3d", "log1p": False},
   "n3": {"count": "impression", "of": "all", "window": "total"}, "n4": {"count": "impression", "of": "all", "by": "category", "window": "1d", "bucketize": [1, 10, 100]},
   "n5": {"count": "like", "of": "user", "window": "total"}, "n6": {"count": "impression", "of": "user", "by": "day", "window": "total"}, "n7": {"count": "impression", "of": "item", "by": "place", "window": "1d"},
   "r1": {"rate": "click/impression", "of": "item", "by": "age", "window": "1d", "smooth": {"parent": ["item", "category", "all"], "weight": 5}},
   "r2": {"rate": "like/click", "of": "item", "window": "3d", "smooth": {"parent": "category", "weight": 20, "prior": [2, 7]}},
   "r3": {"rate": "watch_ms/watch", "of": "user", "by": "author", "window": "total", "smooth": [0, 1]},
   "r4": {"rate": "click/impression", "of": "user", "by": "category", "window": "1d", "smooth": {"parent": "all"}, "bucketize": 10},
   "r5": {"rate": "click/impression", "of": "all", "by": "item.author", "window": "1h"},
   "born": {"age": "item"}, "born_b": {"age": "item", "bucketize": [1, 24]}, "born_h": {"age": "item", "log1p": False},
   "place": {"geohash": ["context.lat", "context.lon"], "precision": 7},
   "tags": {"ids": "item.tags", "last": 40}, "mytags": {"ids": "user.tags"},
   "x": {"cross": ["gender", "hour"]}, "xx": {"cross": ["x", "age_b"], "hash": 500},
   "clicks": {"sequence": "click", "last": 15, "table": "items"}, "clicks_c": {"sequence": "click", "of": "category", "last": 15, "table": "cats"}, "clicks_a": {"sequence": "click", "of": "author", "last": 15, "table": "cats"},
   "clicks_t": {"sequence": "click", "of": "age", "last": 15}, "likes": {"sequence": "like", "of": "category", "last": 9, "table": "cats"},
   "long": {"sequence": "long", "last": 30, "table": "items"}, "long_t": {"sequence": "long", "of": "age", "last": 30}, "dev": {"sequence": "bydevice", "last": 4, "table": "items"},
   "followed": {"sequence": "follows", "last": 5, "table": "cats"}, "is_followed": {"member": "follows"}, "seen": {"member": "recent"}},
 "tables": {"users": {"rows": 1000}, "items": {"rows": 1000}, "cats": {"rows": 1000}},
}

# Nothing is declared: an attribute is whatever comes. Named windows, sets, everything by few and by many values.
LOOSE = {
    "stream": {"items": {"birth": "created_at", "category": "author"}},
    "buckets": {"any": {"of": "item.created_at"}, "half": {"of": "user.age", "edges": [0.5]},
                "city": {"of": "user.city", "prefix": 2}, "hour": {"hour": "timestamp"}},
    "counters": {
        "windows": [{"name": "10m", "tile": "10m", "length": "10m"}, {"name": "2h", "tile": "10m", "length": "2h"}],
        "item": {"by": ["any", "half", "city", "context.lat"]}, "user": {"by": ["hour", "tags", "context.lon"]},
        "all": {"by": ["hour", "user.vip"]}},
    "sequences": {
        "all": {"last": 3, "unique": True, "remove_on": ["comment"]}, "like": {"last": 100},
        "tags": {"of": ["watch"], "keep": "item.category", "last": 4},
        "set": {"of": ["click", "follow"], "keep": "item.author", "unique": True, "last": 2, "remove_on": ["dislike"]},
        "byhour": {"of": ["click", "watch", "share"], "last": 2, "by": "hour", "unique": True, "with": ["category", "dwell"]}},
    "join": {"labels": {"all": {}, "completion": {"of": "watch", "length": "whole"}}},
    "features": {
        "whole": {"number": "item.created_at", "missing": 90000}, "c1": {"count": "dislike", "of": "item", "by": "half", "window": "10m"},
        "c2": {"count": "watch_ms", "of": "item", "window": "2h", "bucketize": {"quantiles": 4}},
        "r1": {"rate": "comment/impression", "of": "user", "by": "hour", "window": "2h",
               "smooth": {"parent": ["user", "hour", "all"], "weight": 0.25, "prior": [0, 1]}},
        "r2": {"rate": "click/impression", "of": "item", "by": "context.lat", "window": "10m",
               "smooth": {"parent": "user.vip"}, "bucketize": [0.01, 0.1, 0.5]},
        "lat": {"number": "context.lat", "log1p": True}, "lon": {"number": "context.lon", "missing": -1.5},
        "vip": {"number": "user.vip"}, "when": {"id": "item.created_at"}, "tags": {"ids": "user.tags", "last": 1},
        "age": {"age": "item", "bucketize": {"quantiles": 3}}, "place": {"geohash": ["context.lat", "context.lon"]},
        "x": {"cross": ["when", "place"]}, "in": {"member": "set"}, "in_tags": {"member": "tags"},
        "byhour": {"sequence": "byhour", "table": "t"}, "byhour_c": {"sequence": "byhour", "of": "category", "table": "t"},
        "byhour_t": {"sequence": "byhour", "of": "age", "last": 1}, "likes": {"sequence": "like", "of": "age", "last": 60},
        "day": {"weekday": "timestamp", "offset": -14}},
    "tables": {"t": {"rows": 1000}},
}
