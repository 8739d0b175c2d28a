from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.pipelines.shards.test_sidecar import entries
from xkd.pipelines.shards.identity import add_identities, columns_identity
from xkd.pipelines.shards.sidecar import pack


@given(entries=entries, data=st.data())
def test_the_identity_does_not_depend_on_order_or_shards(entries, data):
    shuffled = data.draw(st.permutations(entries))
    cut = data.draw(st.integers(0, len(entries)))
    parts = [columns_identity(pack(part)) for part in (shuffled[:cut], shuffled[cut:])]
    assert add_identities(parts) == columns_identity(pack(entries))


@given(entries=entries.filter(bool))
def test_another_key_or_checksum_is_another_identity(entries):
    first, *rest = entries
    changes = [
        replace(first, key="other key"),
        replace(first, video=replace(first.video, crc=first.video.crc ^ 1)),
        replace(first, audio=replace(first.audio, crcs=(*first.audio.crcs, 7))),
    ]
    identities = {columns_identity(pack([changed, *rest])) for changed in (first, *changes)}
    assert len(identities) == 4
