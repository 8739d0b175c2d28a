"""The identity of a set of samples: the same whatever their order, and whichever shards they lie in.

Each sample has a 128-bit hash of its key and the CRCs of its streams; the identity of a set is the sum of them, modulo 2^128. So
the identity of a shard set is the sum of those of its shards.
"""

from collections.abc import Iterable
from hashlib import blake2b

from xkd.pipelines.shards.sidecar import Columns, unpack_key

_BYTES = 16


def columns_identity(columns: Columns) -> str:
    """The identity of a sidecar's samples, 32 hexadecimal digits."""
    return add_identities(_sample_identity(columns, row) for row in range(len(columns["key"])))


def add_identities(identities: Iterable[str]) -> str:
    """The identity of several sets of samples together."""
    return f"{sum(int(identity, 16) for identity in identities) % 256**_BYTES:0{2 * _BYTES}x}"


def _sample_identity(columns: Columns, row: int) -> str:
    begin, end = columns["audio_crc_offsets"][row : row + 2]
    crcs = [columns["video_crc"][row], *columns["audio_crc"][begin:end]]
    text = " ".join([unpack_key(columns, row), *(f"{crc:08x}" for crc in crcs)])
    return blake2b(text.encode("ascii"), digest_size=_BYTES).hexdigest()
