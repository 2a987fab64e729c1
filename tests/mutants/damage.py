"""Damage of which nobody knows the right answer: whatever is read of it, it is read or refused."""

import json
import struct

# What no file in use has, and what the code might trip over.
NUMBERS = (0, -1, 1, 2, 3, 7, 2**31, 2**63, 2**64, -(2**63), 10**400, 1.5, 1e308, float("nan"), float("inf"))
ODD = (*NUMBERS, None, True, "", "x", "\x1b[2J", "../..", "9" * 5000, [], [1] * 50, {}, {"a": {"a": {}}})


def damage(file, rng):
    """Change a file in place: insert bytes, change some, or change a value of its JSON."""
    content, kind = file.read_bytes(), rng.randrange(9)
    if kind == 0:
        place = rng.randrange(len(content))
        content = content[:place] + rng.randbytes(rng.choice((1, 8, 100))) + content[place:]
    elif kind >= 3 and file.suffix == ".json":
        content = _json_damage(content, rng)
    elif kind >= 4 and file.suffix == ".safetensors":
        content = _header_damage(content, rng)
    else:
        content = _byte_damage(content, rng)
    file.write_bytes(content)


def _json_damage(content, rng):
    """One value of a JSON object replaced, removed, or put under another name."""
    found = json.loads(content)
    places = []

    def collect(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                collect(node[key])

    collect(found)
    node, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[str(rng.choice(ODD))[:50]] = node.pop(key)
    else:
        node[key] = rng.choice(ODD)
    return json.dumps(found).encode()


def _header_damage(content, rng):
    """The header of a safetensors file with one value replaced, at its old or new length."""
    [length] = struct.unpack("<Q", content[:8])
    header = _json_damage(content[8 : 8 + length], rng)
    return struct.pack("<Q", len(header) if rng.random() < 0.9 else length) + header + content[8 + length :]


def _byte_damage(content, rng):
    """A few bytes changed, mostly near the beginning or the end, where formats say what they hold."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(min(len(changed), rng.choice((64, 1024, len(changed)))))
        changed[place if rng.random() < 0.7 else -1 - place] = rng.choice((0, 255, rng.randrange(256)))
    return bytes(changed)
