"""Damage that keeps a file's format: one value of a JSON or YAML document, the arrays of a NumPy file, one tensor."""

import io
import json
import random
import struct
from copy import deepcopy
from typing import Any

import numpy as np
import yaml

NUMBERS = [0, -1, 1, 0.5, 7, 1e-320, 1e-40, 1e308, -1e308, 10**9, 2**31, 2**63, 10**30, float("nan"), float("inf")]
VALUES: list[Any] = [
    *NUMBERS,
    None,
    True,
    "",
    "x",
    "\0",
    "nan",
    "../../etc/passwd",
    "x" * 5000,
    "9" * 400,
    [],
    {},
    [[]],
    [1, 2],
]
LISTS: list[Any] = [[0] * 5000, [[1.0] * 4] * 4, [None] * 3, [float("nan")] * 4, [1e308] * 4, ["a"] * 4]
SHAPES = [
    (),
    (0,),
    (1,),
    (3,),
    (4, 0),
    (1, 1),
    (2, 3),
    (3, 2, 2),
    (1, 6, 5),
    (6, 5, 1),
    (17,),
    (2, 17),
    (1, 1, 1, 1, 1),
]
KINDS = ["f8", "f4", "f2", "i8", "i4", "u2", "u1", "?", "c16", ">f4", "<U3", "M8[s]"]


def changed_document(content: bytes, chance: random.Random, is_yaml: bool) -> bytes:
    """The document with one to three of its values replaced, removed or repeated."""
    document = yaml.safe_load(content) if is_yaml else json.loads(content)
    for _ in range(chance.randrange(1, 4)):
        places = list(_places(document))
        if not places:
            break
        holder, key = chance.choice(places)
        kind = chance.choice(["replace", "replace", "replace", "remove", "repeat", "swap", "deep"])
        if kind == "remove":
            del holder[key]
        elif kind == "repeat" and isinstance(holder, list):
            holder.extend(deepcopy(holder[key]) for _ in range(chance.choice([1, 2, 300])))
        elif kind == "swap":
            other, name = chance.choice(places)
            holder[key] = deepcopy(other[name])
        elif kind == "deep":
            value: Any = 1
            for _ in range(chance.choice([3, 30, 300])):
                value = [value]
            holder[key] = value
        else:
            holder[key] = deepcopy(chance.choice([*VALUES, *LISTS]))
    # Nested deeper than Python writes: then the text is put together by hand.
    if chance.random() < 0.02:
        depth = chance.choice([2000, 100_000])
        return b"[" * depth + b"]" * depth
    return (yaml.safe_dump(document) if is_yaml else json.dumps(document)).encode()


def changed_arrays(content: bytes, chance: random.Random) -> bytes:
    """A `.npy` or `.npz` file whose arrays have other shapes, types or values, or other names."""
    loaded = np.load(io.BytesIO(content), allow_pickle=False)
    out = io.BytesIO()
    if isinstance(loaded, np.ndarray):
        np.save(out, _changed_array(loaded, chance))
        return out.getvalue()
    arrays = {name: loaded[name] for name in loaded.files}
    for _ in range(chance.randrange(1, 3)):
        if not arrays:
            break
        name = chance.choice(list(arrays))
        kind = chance.choice(["array", "array", "array", "remove", "rename"])
        array = arrays.pop(name)
        if kind == "array":
            arrays[name] = _changed_array(array, chance)
        elif kind == "rename":
            arrays[chance.choice(["x", "depth", "a/b", "weights"])] = array
    np.savez(out, **arrays)
    return out.getvalue()


def changed_tensors(content: bytes, chance: random.Random) -> bytes:
    """A safetensors file whose header says something else of one tensor."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    name = chance.choice([name for name in header if name != "__metadata__"])
    kind = chance.choice(["remove", "rename", "shape", "offsets", "type"])
    entry = header.pop(name)
    if kind == "rename":
        header[name + ".x"] = entry
    elif kind != "remove":
        key = {"shape": "shape", "offsets": "data_offsets", "type": "dtype"}[kind]
        others = {"shape": [[], [0], [2**40], [7, 5], [-1]], "data_offsets": [[0, 4], [0, 2**50], [9, 3]]}
        header[name] = entry | {key: chance.choice(others.get(key, ["F64", "I8", "X9", 3]))}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def _changed_array(array: np.ndarray, chance: random.Random) -> np.ndarray:
    kind = chance.choice(["values", "values", "shape", "type", "made"])
    if array.dtype.kind not in "fiu" or kind == "made":
        return np.ones(chance.choice(SHAPES)).astype(chance.choice(KINDS[:-1]))
    if kind == "shape":
        return array.reshape(-1)[: chance.randrange(array.size + 1)] if chance.random() < 0.5 else array[..., None]
    if kind == "type":
        return array.astype(chance.choice(KINDS[:-3]))
    changed = array.astype(np.float64).copy()
    for _ in range(chance.randrange(1, 6)):
        if changed.size:
            changed.reshape(-1)[chance.randrange(changed.size)] = float(chance.choice(NUMBERS))
    with np.errstate(all="ignore"):
        return changed if chance.random() < 0.5 else changed.astype(array.dtype)


def _places(node: Any) -> Any:
    """(holder, key) of every value in a document."""
    keys = range(len(node)) if isinstance(node, list) else list(node) if isinstance(node, dict) else []
    for key in keys:
        yield node, key
        yield from _places(node[key])
