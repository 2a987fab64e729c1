"""How much larger than its file a checkpoint may claim to be."""

# Trained numbers hardly compress, pruned ones by tens; hostile ones by a thousand, which is deflate's limit.
_LARGEST_RATIO = 100
# Small files may hold nothing but zeros.
_ALWAYS_ALLOWED = 2**24


def require_plausible(claimed: int, stored: int) -> None:
    """Raise if the tensors of a file that may be compressed claim far more bytes than the file has.

    Parameters
    ----------
    claimed : int
        Bytes that the tensors would take in memory.
    stored : int
        Bytes of the file.

    Raises
    ------
    ValueError
        If the tensors are more than 100 times as large as the file, and larger than 16 MiB.
    """
    if claimed > max(_LARGEST_RATIO * stored, _ALWAYS_ALLOWED):
        raise ValueError(
            f"tensors that claim {claimed} bytes, which is more than {_LARGEST_RATIO} times the file's {stored}"
        )
