import numpy as np

from xkd.eval.tables import accuracies, differences, markdown

HALF = np.array([True, False] * 50)
MOST = np.array([True] * 90 + [False] * 10)
CHANCE = np.full(100, 0.1)
TABLE = {"chance": {"video": CHANCE, "audio": CHANCE}, "trained": {"video": MOST, "audio": HALF, "both": MOST}}


def test_a_table_has_a_row_a_net_and_a_column_a_modality():
    lines = markdown(accuracies(TABLE)).splitlines()
    assert lines[0] == "|  | video | audio | both |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| chance", "| trained"]


def test_a_cell_gives_percent_with_its_interval_and_an_exact_value_none():
    chance, trained = markdown(accuracies(TABLE)).splitlines()[2:]
    assert chance == "| chance | 10.0 | 10.0 | - |"
    assert trained.startswith("| trained | 90.0 [8")


def test_differences_are_signed_and_cover_every_other_row():
    rows = differences(TABLE, "trained")
    assert list(rows) == ["trained - chance"]
    assert "| +80.0 [+7" in markdown(rows, signed=True)


def test_a_difference_needs_both_rows_to_have_the_modality():
    assert set(differences(TABLE, "trained")["trained - chance"]) == {"video", "audio"}
