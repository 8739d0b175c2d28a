"""Masks are pure functions of (seed, stream, step, position in the global batch)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xkd.kernels.random_mask import philox, random_mask

# (counter, key, output) of the authors' own known-answer test of philox4x32-10 (Random123, kat_vectors).
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_its_authors_known_answers(counter, key, expected):
    words = philox(key[0] | key[1] << 32, tuple(torch.tensor(word) for word in counter))
    assert tuple(word.item() for word in words) == expected


def test_a_seed_held_in_a_tensor_draws_as_the_number_does():
    number = random_mask(7 << 40, 1, 3, 0, 4, 20, 5)
    tensor = random_mask(torch.tensor(7 << 40), 1, torch.tensor(3), 0, 4, 20, 5)
    assert torch.equal(number.restore, tensor.restore)


@given(
    num_tokens=st.integers(2, 40),
    share=st.floats(0.01, 0.99),
    batch=st.integers(1, 5),
    seed=st.integers(0, 2**63 - 1),
    step=st.integers(0, 2**31),
    row0=st.integers(0, 10**6),
)
def test_kept_and_dropped_tokens_partition_the_clip(num_tokens, share, batch, seed, step, row0):
    num_keep = min(max(round(num_tokens * share), 1), num_tokens - 1)
    mask = random_mask(seed, 0, step, row0, batch, num_tokens, num_keep)
    order = torch.cat([mask.keep, mask.drop], dim=1)
    everything = torch.arange(num_tokens).expand(batch, -1)
    assert mask.keep.shape == (batch, num_keep)
    assert torch.equal(order.sort(dim=1).values, everything)
    assert torch.equal(order.gather(1, mask.restore), everything)
    assert torch.equal(mask.mask, torch.ones(batch, num_tokens, dtype=torch.bool).scatter(1, mask.keep, False))


@given(cut=st.integers(1, 7), first_row=st.integers(0, 1000))
def test_a_batch_cut_anywhere_draws_the_same_masks(cut, first_row):
    whole = random_mask(3, 0, 11, first_row, 8, 30, 9)
    parts = [random_mask(3, 0, 11, first_row, cut, 30, 9), random_mask(3, 0, 11, first_row + cut, 8 - cut, 30, 9)]
    for name in whole._fields:
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts])), name


@pytest.mark.parametrize("other", [(4, 0, 11, 0), (3 + (1 << 32), 0, 11, 0), (3, 1, 11, 0), (3, 0, 12, 0), (3, 0, 11, 1)], ids=str)
def test_seed_stream_step_and_position_each_change_the_mask(other):
    assert not torch.equal(random_mask(3, 0, 11, 0, 1, 30, 9).restore, random_mask(*other, 1, 30, 9).restore)


def test_every_token_is_kept_equally_often():
    kept = 1 - random_mask(0, 0, 0, 0, 4000, 24, 6).mask.float().mean(0)
    deviation = (0.25 * 0.75 / 4000) ** 0.5
    assert (kept - 0.25).abs().max() < 4 * deviation


def test_noise_orders_the_tokens_like_a_stable_sort():
    noise = torch.tensor([[0.5, 0.1, 0.5, 0.1, 0.9]])
    mask = random_mask(0, 0, 0, 0, 1, 5, 3, noise=noise)
    assert mask.keep.tolist() == [[1, 3, 0]]
    assert mask.drop.tolist() == [[2, 4]]


@pytest.mark.parametrize(("options", "message"), [
    ({"num_keep": 0}, "0 of 9 tokens kept: needs at least 1 kept and 1 masked"),
    ({"num_keep": 9}, "9 of 9 tokens kept"),
    ({"noise": torch.rand(2, 8)}, r"noise \(2, 8\) of torch.float32: needs floats for 2 samples of 9 tokens"),
    ({"noise": torch.zeros(2, 9, dtype=torch.int64)}, "of torch.int64: needs floats"),
    ({"noise": torch.rand(2, 9), "device": "meta"}, "one device, not masks on meta, noise on cpu"),
    ({"step": torch.zeros(1, dtype=torch.int64)}, r"step of shape \(1,\) and torch.int64: needs one int64"),
    ({"step": torch.tensor(1.0)}, "step of shape .* and torch.float32: needs one int64"),
    ({"seed": 2**63}, "seed 9223372036854775808 is no 64-bit integer: choose one below"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(options, message):
    fitting = {"seed": 0, "stream": 0, "step": 0, "row0": 0, "batch": 2, "num_tokens": 9, "num_keep": 4}
    with pytest.raises(ValueError, match=f"random_mask: .*{message}"):
        random_mask(**fitting | options)


def test_masks_are_drawn_where_the_tensors_are():
    assert random_mask(torch.zeros((), dtype=torch.int64, device="meta"), 0, 0, 0, 2, 9, 4).keep.device.type == "meta"
