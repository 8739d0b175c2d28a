import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from xkd.eval.mixing import MixingConfig, mix, numpy_seeded, targets_of

CLASSES = 7
MIXUP, CUTMIX = MixingConfig(mixup=0.6), MixingConfig(cutmix=0.5)


def batch(num_clips=8, shape=(3, 4, 16, 16)):
    generator = torch.Generator().manual_seed(num_clips)
    return torch.randn(num_clips, *shape, generator=generator), torch.arange(num_clips) % CLASSES


def mixed(config, step=0, seed=0, smoothing=0.0, shape=(3, 4, 16, 16)):
    clips, labels = batch(shape=shape)
    return mix(clips, labels, CLASSES, smoothing, config, seed=seed, step=step)


@pytest.mark.parametrize("step", range(4))
def test_mixup_blends_neighbours_and_their_targets_by_one_share(step):
    clips, _ = batch()
    pictures, targets = mixed(MIXUP, step)
    share = targets[0, 0].item()
    assert 0 < share < 1
    for clip, (picture, target) in enumerate(zip(pictures, targets, strict=True)):
        other = clip ^ 1
        torch.testing.assert_close(picture, share * clips[clip] + (1 - share) * clips[other])
        expected = torch.zeros(CLASSES)
        expected[clip % CLASSES] += share
        expected[other % CLASSES] += 1 - share
        torch.testing.assert_close(target, expected)


@pytest.mark.parametrize("step", range(4))
def test_cutmix_takes_one_rectangle_of_all_frames_and_blends_targets_by_its_area(step):
    clips, _ = batch()
    pictures, targets = mixed(CUTMIX, step)
    taken = (pictures != clips).any(dim=(0, 1, 2))
    rows, columns = taken.any(1), taken.any(0)
    assert torch.equal(taken, rows[:, None] & columns[None])
    expected = torch.where(taken, clips[[clip ^ 1 for clip in range(8)]], clips)
    assert torch.equal(pictures, expected)
    assert targets[0, 0].item() == pytest.approx(1 - taken.float().mean().item())
    assert targets[0, 1].item() == pytest.approx(taken.float().mean().item(), abs=1e-6)


def test_smoothed_targets_of_a_mixture_are_the_mixture_of_smoothed_targets():
    _, plain = mixed(MIXUP, smoothing=0.0)
    _, smooth = mixed(MIXUP, smoothing=0.1)
    torch.testing.assert_close(smooth, 0.9 * plain + 0.1 / CLASSES)


def test_smoothed_targets_give_the_cross_entropy_of_torchs_label_smoothing():
    logits, (_, labels) = torch.randn(8, CLASSES), batch()
    ours = cross_entropy(logits, targets_of(labels, CLASSES, 0.1))
    torch.testing.assert_close(ours, cross_entropy(logits, labels, label_smoothing=0.1))


def test_the_mixture_is_the_same_however_the_batch_is_cut():
    clips, labels = batch()
    config = MixingConfig(mixup=0.6, cutmix=0.5)
    whole = mix(clips, labels, CLASSES, 0.1, config, seed=3, step=9)
    parts = [mix(clips[row : row + 2], labels[row : row + 2], CLASSES, 0.1, config, seed=3, step=9) for row in range(0, 8, 2)]
    for together, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(together, torch.cat(pieces))


def test_shares_follow_the_beta_distribution_and_both_kinds_come_as_often_as_asked():
    clips, labels = torch.stack([torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)]), torch.tensor([0, 1])
    shares, cut = [], 0
    for step in range(600):
        pictures, targets = mix(clips, labels, 2, 0.0, MixingConfig(mixup=0.6, cutmix=0.5), seed=0, step=step)
        is_cut = set(pictures.unique().tolist()) <= {0.0, 1.0}
        cut += is_cut
        if not is_cut:
            shares.append(targets[0, 0].item())
    assert cut / 600 == pytest.approx(0.5, abs=0.05)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.6 + 1)), abs=0.02)


def test_spectrograms_can_be_mixed_too():
    clips, _ = batch(shape=(1, 8, 12))
    pictures, targets = mixed(MIXUP, shape=(1, 8, 12))
    share = targets[0, 0].item()
    torch.testing.assert_close(pictures[0], share * clips[0] + (1 - share) * clips[1])


def test_what_is_given_is_left_as_it_was_and_so_are_numpys_draws():
    clips, labels = batch()
    before = clips.clone()
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    mix(clips, labels, CLASSES, 0.1, MIXUP, seed=1, step=1)
    assert np.random.rand() == expected
    assert torch.equal(clips, before)


def test_numpys_draws_are_restored_after_an_error():
    def fails():
        with numpy_seeded(1, 2):
            raise RuntimeError(np.random.rand())

    state = np.random.get_state()[1].copy()
    with pytest.raises(RuntimeError):
        fails()
    assert np.array_equal(np.random.get_state()[1], state)


def test_the_step_and_the_seed_decide_the_mixture():
    one, again = mixed(MIXUP, step=1)[0], mixed(MIXUP, step=1)[0]
    assert torch.equal(one, again)
    assert not torch.equal(one, mixed(MIXUP, step=2)[0])
    assert not torch.equal(one, mixed(MIXUP, step=1, seed=1 << 40)[0])


def test_an_odd_number_of_clips_is_our_own_mistake():
    clips, labels = batch(7)
    with pytest.raises(AssertionError, match="7 clips cannot be mixed in pairs"):
        mix(clips, labels, CLASSES, 0.0, MIXUP, seed=0, step=0)
