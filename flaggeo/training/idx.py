"""The four files of MNIST and of the data sets that have its form, read as untrusted input."""

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

# Side of an image in pixels, number of classes, and most images of a file.
_SIDE, _CLASSES, _MOST = 28, 10, 100_000


def read_mnist(folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and classes for training and for the test.

    Parameters
    ----------
    folder : Path
        With ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the two that begin with ``t10k``, or those
        compressed, which end in ``.gz``.

    Returns
    -------
    images, classes, test_images, test_classes : Tensor, shape=[N, 784] and [N]
        uint8.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is no such file, is cut short or goes on behind its end, has more than 100,000 images, images of
        another size, or classes beyond 9.
    """
    return *_pair(folder, "train"), *_pair(folder, "t10k")


def _pair(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    images = _read(_found(folder, f"{part}-images-idx3-ubyte"), (_SIDE, _SIDE)).flatten(1)
    file = _found(folder, f"{part}-labels-idx1-ubyte")
    classes = _read(file, ())
    if len(classes) != len(images):
        raise ValueError(f"{file}: expected {len(images)} labels, one for each image, found {len(classes)}")
    if (largest := int(classes.max())) >= _CLASSES:
        raise ValueError(f"{file}: expected labels 0 to {_CLASSES - 1}, found {largest}")
    return images, classes


def _found(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise FileNotFoundError(f"{folder / name}: expected this file of MNIST, or the same with .gz, found neither")


def _read(file: Path, shape: tuple[int, ...]) -> Tensor:
    """Bytes of an idx file whose items have this shape."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            return _items(stream, file, shape)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{file}: expected a whole gzip file, found {error}") from error


def _items(stream: gzip.GzipFile | IO[bytes], file: Path, shape: tuple[int, ...]) -> Tensor:
    # Two zeros, 8 for bytes, the number of axes; then the length of each axis, most significant byte first.
    header = stream.read(4 * (2 + len(shape)))
    kind, sizes = header[:4], [int.from_bytes(header[place : place + 4]) for place in range(4, len(header), 4)]
    if kind != bytes((0, 0, 8, 1 + len(shape))) or tuple(sizes[1:]) != shape:
        wanted = " x ".join(map(str, ("N", *shape)))
        raise ValueError(f"{file}: expected an idx file of {wanted} bytes, found the header {header.hex()!r}")
    count = sizes[0]
    if not 0 < count <= _MOST:
        raise ValueError(f"{file}: expected 1 to {_MOST:,} items, found {count:,} in its header")
    expected = count * prod(shape)
    content = bytearray(stream.read(expected + 1))
    if len(content) != expected:
        found = f"{len(content):,}" if len(content) < expected else "more"
        raise ValueError(f"{file}: expected {expected:,} bytes behind its header, found {found}")
    return torch.frombuffer(content, dtype=torch.uint8).view(count, *shape)
