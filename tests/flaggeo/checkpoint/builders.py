"""Files with a header and nothing but zeros behind it."""

import json
import struct


def write_safetensors(file, header, *, size, length=None):
    """A file with this header and so many bytes of zeros behind it, which take no room on the disk."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.parent.mkdir(exist_ok=True)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text) if length is None else length) + text)
        stream.truncate(8 + len(text) + size)
    return file


def write_sparse(file, shapes):
    """Tensors of these shapes in float32, all zeros."""
    header, stop = {}, 0
    for name, shape in shapes.items():
        start, stop = stop, stop + 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}
    return write_safetensors(file, header, size=stop)
