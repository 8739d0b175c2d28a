"""The cells of a study: in a balanced order, with identities that follow what their numbers depend on."""

from pathlib import Path

import pytest

from tests.study.studies import cells_of, write_study
from xkd.study.plan import find_cell, load_cells

CONFIGS = Path(__file__).parents[2] / "configs"
ROWS = [
    {"name": "recon", "fields": {"loss": {"weights": {"cmkd": 0, "align": 0}}}},
    {"name": "align", "fields": {"loss": {"weights": {"cmkd": 0}}}, "against": "recon", "seeds": [0]},
    {"name": "all", "against": "recon"},
]


def test_the_primary_comparison_comes_first_and_one_seed_goes_after_the_other(tmp_path):
    labels = [cell.label for cell in cells_of(write_study(tmp_path, rows=ROWS))]
    assert labels == ["recon-seed0", "all-seed0", "recon-seed1", "all-seed1", "align-seed0"]


@pytest.mark.parametrize("path", sorted((CONFIGS / "study").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_cells_of_every_committed_study_are_valid_and_differ(path):
    study, cells = load_cells(path, [])
    assert len({cell.identity for cell in cells}) == len(cells) == sum(len(row.seeds or study.seeds) for row in study.rows)


def identity(folder, label="all-seed1", overrides=(), **fields):
    return find_cell(cells_of(write_study(folder, **fields), *overrides), label).identity


def test_an_identity_is_that_of_the_numbers_alone(tmp_path):
    known = identity(tmp_path)
    quiet = {"train": {"log_every": 7, "checkpoint_every": 5}, "data": {"num_threads": 3}, "probe": {"clips": 9}}
    assert identity(tmp_path, overrides=[f"work_dir={tmp_path}/elsewhere", f"records={tmp_path}/others"]) == known
    assert identity(tmp_path, fields=quiet) == known
    assert identity(tmp_path, fields={"loss": {"norm_pix_loss": True}}) == known  # what it is anyhow
    renamed = [ROWS[0], {**ROWS[2], "name": "everything"}]
    primary = {"row": "everything", "score": "video"}
    assert identity(tmp_path, rows=renamed, label="everything-seed1", primary=primary) == known


@pytest.mark.parametrize(
    "changed",
    [
        {"label": "all-seed0"},
        {"label": "recon-seed1"},
        {"fields": {"loss": {"weights": {"cmkd": 0.5}}}},
        {"fields": {"train": {"max_steps": 3}}},
        {"media": {"small": {"train": 20, "test": 20, "seed": 1}}},
        {"media": {"small": {"train": 20, "test": 20, "clips": {"fps": 4, "num_frames": 8, "synchrony": 0.5}}}},
        {"backbone": "teacher"},
        {"svm": {"c": [2.0]}},
    ],
    ids=str,
)
def test_an_identity_follows_what_the_numbers_depend_on(tmp_path, changed):
    assert identity(tmp_path, **changed) != identity(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"primary": {"row": "al", "score": "video"}}, r"primary.row: 'al' is not one of recon, all; did you mean all\?"),
        ({"primary": {"row": "recon", "score": "video"}}, "recon is compared with no other row: set `against`"),
        ({"rows": [*ROWS, ROWS[0]]}, "recon is the name of several rows"),
        ({"media": {"small": {"clips": {"sinchrony": 1}}}}, "clips: 'sinchrony' is not one of .*did you mean synchrony"),
        ({"media": {"small": {"clips": {"bursts": 3}}}}, "clips: bursts: 3: "),
        ({"rows": [{"name": "all", "against": "recon"}]}, "against: 'recon' is not one of all"),
        ({"rows": [{**ROWS[0], "media": "large"}, ROWS[2]]}, "media: 'large' is not one of small"),
        ({"fields": {"loss": {"weights": {"cmkt": 1}}}}, r"study.yaml: fields: loss.weights.cmkt"),
        ({"rows": [ROWS[0], {**ROWS[2], "fields": {"ema": {"video": 2}}}]}, "study.yaml: row all: ema.video: "),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        cells_of(write_study(tmp_path, **changed))


def test_a_cell_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path):
    with pytest.raises(ValueError, match="--cell: 'all-seed7' is not one of recon-seed0, all-seed0"):
        find_cell(cells_of(write_study(tmp_path)), "all-seed7")
