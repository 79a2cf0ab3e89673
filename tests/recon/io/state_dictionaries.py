"""Files of PyTorch without PyTorch: the pickle of a state dictionary, letter by letter, and the numbers beside it."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np

KINDS = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "int64": "Long",
    "uint8": "Byte",
    "bool": "Bool",
}


def pickled_state(arrays):
    """`{name: tensor}` in the opcodes of protocol 0, as `torch.save` describes contiguous tensors."""
    parts = [_tensor(name, array, key) for key, (name, array) in enumerate(arrays.items())]
    return b"".join([b"}(", *parts, b"u."])


def _tensor(name, array, key):
    def numbers(values):
        return "(" + "".join(f"I{int(value)}\n" for value in values) + "t"

    steps = numbers(step // array.itemsize for step in np.array(array, order="C").strides)
    storage = f"(Vstorage\nctorch\n{KINDS[array.dtype.name]}Storage\nV{key}\nVcpu\nI{array.size}\ntQ"
    text = f"V{name}\nctorch._utils\n_rebuild_tensor_v2\n({storage}I0\n{numbers(array.shape)}{steps}I00\n}}tR"
    return text.encode()


def write_state_dict(path, arrays, *, old=False):
    """Write arrays as PyTorch does since version 1.6, or as it did before; returns the path."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    numbers = [array.tobytes() for array in arrays.values()]
    if old:
        front = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
        parts = [
            *map(pickle.dumps, front),
            pickled_state(arrays),
            pickle.dumps([str(n) for n in range(len(arrays))]),
        ]
        parts += [
            array.size.to_bytes(8, "little") + content
            for array, content in zip(arrays.values(), numbers, strict=True)
        ]
        path.write_bytes(b"".join(parts))
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled_state(arrays))
        for key, content in enumerate(numbers):
            archive.writestr(f"archive/data/{key}", content)
    return path
