"""The model card says what is known, and that the rest is not."""

import json
import shutil

from tests.eval.found import found
from tests.exports import write_export, write_run


def text_of(folder):
    return (folder / "README.md").read_text()


def test_the_card_names_the_data_the_schedule_and_the_views(run, tmp_path):
    card = text_of(write_export(run, tmp_path / "my-encoder"))
    assert "# my-encoder" in card
    assert "The teacher's encoders of video and audio, of the run `run`, step 3." in card
    assert 'xkd.load_encoder("my-encoder")' in card
    assert "12 clips, shards" in card
    assert "0 could not be converted" in card
    assert "3 steps, 1.5 epochs, of 800" in card
    assert "recon: 5.0" in card
    assert "[3, 8, 32, 32]" in card
    assert "+ 5.3688107" in card or "(-5.3688107)" in card
    assert "Apache-2.0" in card


def test_the_card_and_the_description_name_no_folder_of_the_machine(run, pretrain_settings, tmp_path):
    folder = write_export(run, tmp_path / "out")
    for text in (text_of(folder), (folder / "config.json").read_text()):
        assert str(tmp_path) not in text
        assert pretrain_settings["data"]["train"] not in text
        assert str(run.parent) not in text


def test_results_of_these_weights_are_shown_and_no_others(pretrain_settings, tmp_path):
    run = write_run(tmp_path / "run", pretrain_settings)
    sums = json.loads((write_export(run, tmp_path / "before") / "config.json").read_text())["source"]["encoders_sha256"]
    assert "None were found" in text_of(tmp_path / "before")
    for number, (value, checksums) in enumerate([(0.875, sums), (0.125, {"video": "of another checkpoint"})]):
        result = found(value=value)
        result["evaluated"]["encoders_sha256"] = checksums
        folder = run / "eval" / str(number)
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(result))
    card = text_of(write_export(run, tmp_path / "after"))
    assert "| ucf101 | svm | video | top1 | 87.5 [77.5, 97.5] |" in card
    assert "12.5" not in card
    only_sound = text_of(write_export(run, tmp_path / "sound", modality="audio"))
    assert "None were found" in only_sound


def test_what_is_not_known_is_said(run, pretrain_settings, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "checkpoints" / "step-000003" / "meta.json").unlink()
    card = text_of(write_export(copy, tmp_path / "unrecorded"))
    assert "Not known: the checkpoint has no record of it." in card
    assert "Steps not recorded" in card
    elsewhere = write_run(tmp_path / "elsewhere", pretrain_settings)
    config = elsewhere / "config.yaml"
    config.write_text(config.read_text().replace(str(pretrain_settings["data"]["train"]), "gone"))
    assert "The shards were not at hand" in text_of(write_export(elsewhere, tmp_path / "gone"))
    again = text_of(write_export(tmp_path / "gone", tmp_path / "again"))
    assert again.count("Not known: the weights came without their run directory.") == 2
