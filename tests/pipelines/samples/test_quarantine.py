from itertools import chain, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xkd.pipelines.samples.quarantine import Damage, Quarantine, summary

DAMAGES = st.builds(
    lambda sample_id, epoch, reason: Damage(
        sample_id=sample_id, key=f"key {sample_id}", shard="train-000000.tar", epoch=epoch, reason=reason
    ),
    sample_id=st.integers(0, 5),
    epoch=st.integers(0, 4),
    reason=st.sampled_from(["its video is damaged", "its audio is damaged"]),
)


@given(damages=st.lists(DAMAGES, max_size=5))
def test_the_order_in_which_damage_is_found_does_not_matter(damages):
    texts = {Quarantine(order).to_jsonl() for order in permutations(damages)}
    assert len(texts) == 1


@given(damages=st.lists(DAMAGES), epoch=st.integers(0, 5))
def test_an_epoch_passes_over_what_was_found_before_it(damages, epoch):
    assert Quarantine(damages).passed_over(epoch) == {damage.sample_id for damage in damages if damage.epoch < epoch}


@given(parts=st.lists(st.lists(DAMAGES), min_size=1, max_size=4))
def test_every_rank_knows_what_any_of_them_found(parts):
    ranks = [Quarantine(part) for part in parts]
    gathered = [[damage.model_dump() for damage in rank] for rank in ranks]
    for rank in ranks:
        rank.share(lambda own: gathered)
        assert rank.to_jsonl() == Quarantine(chain.from_iterable(parts)).to_jsonl()


@given(damages=st.lists(DAMAGES))
def test_a_file_gives_back_what_was_written(tmp_path_factory, damages):
    path = tmp_path_factory.mktemp("run") / "quarantine.jsonl"
    path.write_text(Quarantine(damages).to_jsonl())
    assert list(Quarantine.from_jsonl(path)) == list(Quarantine(damages))


def test_no_file_is_nothing_and_a_spoilt_one_is_named_with_its_line(tmp_path):
    path = tmp_path / "quarantine.jsonl"
    assert len(Quarantine.from_jsonl(path)) == 0
    good = '{"sample_id": 3, "key": "a", "shard": "b", "epoch": 0, "reason": "c"}\n'
    for line in ("{", '{"sample_id": 3}', good.replace("3", '"three"')):
        path.write_text(good + line + "\n")
        with pytest.raises(
            ValueError, match=r"quarantine.jsonl:2: is not the entry of a damaged sample .*; mend or delete the line"
        ):
            Quarantine.from_jsonl(path)


def test_a_summary_names_the_first_and_counts_the_others():
    damages = [Damage(sample_id=k, key=f"key-{k}", shard="s", epoch=0, reason="r") for k in range(9)]
    assert summary(damages[:2]) == "s: sample key-0: r, s: sample key-1: r"
    assert summary(damages).endswith("key-4: r, and 4 more")
