import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import xkd
from tests.exports import write_export, write_run
from tests.media import write_clip
from xkd.eval.checkpoint import encoders
from xkd.features import batch_features
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet

ROOT = Path(__file__).parent.parent.parent
# What is installed here need not be elsewhere: none of it may be imported.
NOT_NEEDED = ("deepspeed", "nvidia.dali", "webdataset", "fsspec", "sklearn", "tensorboard", "matplotlib")


@torch.inference_mode()
def test_features_of_the_pipeline_s_views_are_those_of_the_trained_network(exported, architecture, tiny_shards):
    encoder, net = xkd.load_encoder(exported), architecture.build(seed=7)
    with Loader(ShardSet.open(tiny_shards), architecture.data, preset="eval", batch_size=12) as loader:
        batch = next(iter(loader.epoch(0)))
    ours = encoder({"video": batch.video_global, "audio": batch.audio_global})
    for modality, theirs in batch_features(batch, encoders(net, "student")).items():
        torch.testing.assert_close(ours[modality], theirs, atol=1e-5, rtol=0)


def test_both_layouts_that_are_loaded_hold_the_same(exported, tmp_path):
    one = xkd.load_encoder(exported).state_dict()
    other = xkd.load_encoder(write_export(exported, tmp_path / "out", "release", backbone="student")).state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_tokens_lie_behind_the_features(exported):
    encoder = xkd.load_encoder(exported)
    view = torch.randn(2, *encoder.description.data.audio_shape)
    tokens = encoder.encoders["audio"](view)
    torch.testing.assert_close(encoder({"audio": view})["audio"], tokens[:, 1:].mean(1))
    assert not encoder.training


def world(folder, exported):
    """A folder that holds what the document's code names."""
    shutil.copytree(exported, folder / "my-encoder")
    write_clip(folder / "clip.mp4", seconds=3.0)


@pytest.mark.long
def test_the_document_s_code_runs_and_imports_neither_deepspeed_nor_dali(exported, tmp_path):
    world(tmp_path, exported)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "export.md").read_text(), re.MULTILINE | re.DOTALL)
    asked = f"import sys\nprint([name for name in {NOT_NEEDED} if name in sys.modules])\n"
    script = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n" + "".join(blocks) + asked
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["torch.Size([1, 24]) torch.Size([1, 24])", "[]"]


def spoil_weights(folder):
    path = folder / "video.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")


def change(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


WRONG = {
    "holds no exported encoders": lambda folder: (folder / "config.json").unlink(),
    "video.safetensors: is missing or is not the file that was exported": spoil_weights,
    "audio.safetensors: is missing": lambda folder: (folder / "audio.safetensors").unlink(),
    "was exported for timm": lambda folder: change(folder, layout="timm"),
    "format: 2": lambda folder: change(folder, format=2),
    "is not a description of format 1": lambda folder: (folder / "config.json").write_text("{"),
    "encoders.video.file": lambda folder: change(folder, encoders={"video": {"file": "../video.safetensors"}}),
}


@pytest.mark.parametrize("says", WRONG)
def test_a_folder_that_is_no_whole_export_is_refused(says, exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "copy")
    WRONG[says](folder)
    with pytest.raises(ValueError, match=re.escape(says)):
        xkd.load_encoder(folder)


def test_an_encoder_that_was_not_exported_is_not_asked_for_features(pretrain_settings, tmp_path):
    run = write_run(tmp_path / "run", pretrain_settings)
    encoder = xkd.load_encoder(write_export(run, tmp_path / "out", modality="audio"))
    assert encoder.modalities == ("audio",)
    with pytest.raises(ValueError, match="video: this export holds encoders of audio only"):
        encoder({"video": torch.zeros(1, 3, 8, 32, 32)})
