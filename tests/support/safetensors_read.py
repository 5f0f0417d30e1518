"""Reads and writes safetensors with the standard library alone. The tests use it if the official package is missing,
and as an implementation that shares no code with host/store/safetensors.c.

    read(path)  -> ({name: Tensor}, {key: value}), both in the file's order; raises ValueError with the fault
    write(path, {name: Tensor}, {key: value} or None)

    python3 tests/support/safetensors_read.py FILE      prints names, dtypes, shapes and metadata
"""
import array
import json
import math
import sys
from typing import NamedTuple

SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
         "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8}
ARRAY = {"U8": "B", "I8": "b", "BOOL": "B", "I16": "h", "U16": "H", "I32": "i", "U32": "I", "F32": "f", "I64": "q", "U64": "Q", "F64": "d"}


class Tensor(NamedTuple):
    dtype: str
    shape: tuple
    data: bytes

    def values(self):
        """Returns the values, flat and row-major."""
        return array.array(ARRAY[self.dtype], self.data)


def floats(shape, values):
    """Returns a float32 tensor of this shape and these values, flat and row-major."""
    t = Tensor("F32", tuple(shape), array.array("f", values).tobytes())
    assert len(t.data) == 4 * math.prod(shape)
    return t


def _object(pairs):
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("duplicate key")
    return dict(pairs)


def _whole(x):
    return isinstance(x, int) and not isinstance(x, bool) and x >= 0


def parse(content):
    if len(content) < 8:
        raise ValueError("too short")
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    if len(header) != length or header[:1] != b"{":
        raise ValueError("no header")
    entries = json.loads(header.decode("utf-8"), object_pairs_hook=_object)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("metadata is not of strings")
    tensors, extents = {}, []
    for name, entry in entries.items():
        try:
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            if not all(map(_whole, [begin, end, *shape])) or end - begin != SIZES[dtype] * math.prod(shape):
                raise ValueError(f"{name}: offsets and shape do not agree")
        except (KeyError, TypeError) as e:
            raise ValueError(f"{name}: {e!r}") from e
        tensors[name] = Tensor(dtype, tuple(shape), data[begin:end])
        extents.append((begin, end))
    at = 0
    for begin, end in sorted(extents):
        if begin != at:
            raise ValueError("hole or overlap")
        at = end
    if at != len(data):
        raise ValueError("data cut short or left over")
    return tensors, metadata


def read(path):
    with open(path, "rb") as f:
        return parse(f.read())


def write(path, tensors, metadata=None, pad=8):
    """Writes a file. pad=1 puts the data directly after the header, where it may be misaligned; readers must accept that."""
    header, at = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": [at, at + len(t.data)]}
        at += len(t.data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % pad)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for t in tensors.values():
            f.write(t.data)


if __name__ == "__main__":
    found, meta = read(sys.argv[1])
    for tensor_name, tensor in found.items():
        print(tensor_name, tensor.dtype, tensor.shape)
    for meta_key, value in meta.items():
        print(f"{meta_key} = {value[:100]}")
