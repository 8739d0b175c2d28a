from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xkd.pipelines.samples.window import ShardUses

SEQUENCES = st.lists(st.integers(0, 6), min_size=1, max_size=40).map(np.array)


def at_hand(sequence, place, beyond) -> set:
    """Shards used at or before place + beyond and again, or for the first time, at or after place: by definition."""
    begun = set(sequence[: place + beyond + 1].tolist())
    return begun & set(sequence[place:].tolist())


@given(sequence=SEQUENCES, beyond=st.integers(0, 50))
def test_what_is_at_hand_is_in_use_or_soon_will_be_and_comes_in_the_order_of_use(sequence, beyond):
    uses = ShardUses.of(sequence)
    for place in range(len(sequence)):
        found = uses.at_hand(place, beyond).tolist()
        assert set(found) == at_hand(sequence, place, beyond)
        firsts = [sequence.tolist().index(shard) for shard in found]
        assert firsts == sorted(firsts)


@given(sequence=SEQUENCES, beyond=st.integers(0, 50))
def test_the_most_at_hand_is_that_of_any_place(sequence, beyond):
    most = max(len(at_hand(sequence, place, beyond)) for place in range(len(sequence)))
    assert ShardUses.of(sequence).most_at_hand(beyond) == most


class Told:
    def __init__(self):
        self.names = None

    def ahead(self, names):
        self.names = names


@given(sequence=SEQUENCES, beyond=st.integers(0, 50), behind=st.integers(0, 9))
def test_files_are_told_of_all_that_is_at_hand_before_it_is_read_and_until_it_is_read(sequence, beyond, behind):
    files, names = Told(), "abcdefg"
    announced = ShardUses.of(sequence).announce(files, names, beyond, behind)
    for place, _ in enumerate(islice(announced, len(sequence))):
        being_read = set(sequence[max(0, place - behind) : place].tolist())
        assert {names[shard] for shard in at_hand(sequence, place, beyond) | being_read} <= set(files.names)
    announced.close()
    assert files.names == []
