# SPDX-License-Identifier: Apache-2.0
"""safetensors files as dicts of NumPy arrays: the whole format is a length, a JSON header and the numbers, so that
nothing has to be installed for it (models/safetensors.h draws it)."""
import json
import struct

import numpy

TYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "U64": "<u8", "I32": "<i4", "U32": "<u4", "U8": "u1", "BOOL": "?"}


def read(path):
    """(tensors by name, notes)"""
    with open(path, "rb") as file:
        data = file.read()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    notes = header.pop("__metadata__", {})
    tensors = {}
    for name, about in header.items():
        begin, end = (8 + length + x for x in about["data_offsets"])
        tensors[name] = numpy.frombuffer(data[begin:end], TYPES[about["dtype"]]).reshape(about["shape"]).copy()
    return tensors, notes


def write(path, tensors):
    kinds = {numpy.dtype(dtype): name for name, dtype in TYPES.items()}
    header, blobs, at = {}, [], 0
    for name, array in tensors.items():
        array = numpy.ascontiguousarray(array)
        header[name] = {"dtype": kinds[array.dtype], "shape": list(array.shape),
                        "data_offsets": [at, at + array.nbytes]}
        blobs.append(array.tobytes())
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
