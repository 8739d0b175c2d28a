"""The tables of a study: means, intervals and paired differences of the records that are there."""

import numpy as np
import pytest
from scipy import stats

from tests.study.studies import cells_of, write_record, write_study
from xkd.study.intervals import spread
from xkd.study.plan import find_cell, load_cells
from xkd.study.table import tables, write_into


def test_the_interval_is_that_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((5, 200)) < 0.6, rng.random((5, 200)) < 0.5
    found = spread(ours.astype(float) - theirs)
    known = stats.ttest_rel(ours.mean(1), theirs.mean(1)).confidence_interval(0.95)
    assert found.mean - found.half_width == pytest.approx(known.low)
    assert found.mean + found.half_width == pytest.approx(known.high)


def test_the_error_of_the_clips_is_that_of_their_number():
    """Drawing other clips moves the mean of one seed as much as is said; another seed on the same clips is no help."""
    rng = np.random.default_rng(1)
    draws = rng.random((4000, 100)) < 0.3
    said = np.mean([spread([row, row]).clip_error for row in draws.astype(float)])
    assert said == pytest.approx(draws.mean(1).std(), rel=0.05)


def test_of_one_seed_there_is_no_interval():
    assert spread([np.ones(4)]).half_width is None


def finished(tmp_path, *labels, **correct):
    path = write_study(tmp_path)
    cells = cells_of(path)
    for label in labels:
        write_record(find_cell(cells, label), correct.get(label.partition("-")[0], [1, 0, 0, 0]))
    return tables(*load_cells(path, []))


def test_a_finished_study_has_all_its_numbers(tmp_path):
    text = finished(tmp_path, "recon-seed0", "recon-seed1", "all-seed0", "all-seed1", all=[1, 1, 1, 0])
    assert "UNFINISHED" not in text
    assert "**all - recon, video** (the primary comparison): +50.0 +- 0.0 (28.9) points over 2 seeds." in text
    assert "| all | 2 | 75.0 +- 0.0 (25.0) |" in text
    assert "| all - recon | 2 | +50.0 +- 0.0 (28.9) |" in text


def test_what_is_not_finished_is_shown_as_unfinished(tmp_path):
    text = finished(tmp_path, "recon-seed0", "recon-seed1", "all-seed1")
    assert "(the primary comparison): +0.0 (0.0) points over 1 seeds. UNFINISHED, 1 of 2 seeds." in text
    assert "| recon | 2 | 25.0" in text
    assert "| all | UNFINISHED, 1 of 2 | 25.0 (25.0) |" in text
    assert "| all - recon | UNFINISHED, 1 of 2 |" in text
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    assert "UNFINISHED, 0 of 2 seeds." in finished(nothing)


def test_rows_on_other_clips_are_not_paired(tmp_path):
    path = write_study(tmp_path)
    for cell in cells_of(path):
        write_record(cell, [1, 0], shards=cell.row.name)
    assert "| all - recon | UNFINISHED, 0 of 2 | - | - | - |" in tables(*load_cells(path, []))


def test_a_record_of_other_settings_is_none_of_the_study(tmp_path):
    path = write_study(tmp_path)
    for cell in cells_of(path):
        write_record(cell, [1, 0])
    assert "No cell is finished yet." in tables(*load_cells(path, ["fields={train: {epochs: 3}}"]))


def test_a_record_that_is_not_what_its_name_says_is_an_error(tmp_path):
    path = write_study(tmp_path)
    ours, other = cells_of(path)[:2]
    write_record(ours, [1, 0])
    ours.record.rename(other.record)
    with pytest.raises(ValueError, match=f"{other.record}: is of other settings"):
        tables(*load_cells(path, []))


def test_tables_take_the_place_between_their_marks_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- study a -->\nold\n<!-- end of study a -->\nafter <!-- study b -->\n<!-- end of study b -->\n")
    for _ in range(2):
        write_into(page, "a", "| new |")
        text = "before\n<!-- study a -->\n\n| new |\n\n<!-- end of study a -->\nafter <!-- study b -->\n<!-- end of study b -->\n"
        assert page.read_text() == text
    with pytest.raises(ValueError, match=r"page\.md: has no lines '<!-- study c -->'"):
        write_into(page, "c", "")
