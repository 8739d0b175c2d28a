import pytest

from tests.eval.found import found, leave
from xkd.eval.comparison import Result, mixed_data, read_results, rows_of, tables

OTHER = ("a" * 32, "b" * 32)


def table(*results, title="Linear"):
    rows = rows_of([Result(f"{number}.json", one) for number, one in enumerate(results)])
    return tables(rows).get(title)


def ours(*results, **choices):
    heading, *body = table(*results, **choices)
    return heading, [line for line in body if not line[0].startswith(("paper", "ablation"))]


def test_our_numbers_stand_under_those_of_the_paper():
    heading, *body = table(found(value=0.825), found("hmdb51", value=0.5))
    assert heading == ["", "hmdb51 svm fold 1, top1", "ucf101 svm fold 1, top1"]
    assert ["paper: XKD, Kinetics-400", "57.4", "83.8"] in body
    assert ["ablation: without refinement", "55.6", "79.3"] in body
    assert body[-1] == ["runs/xkd (teacher)", "50.0", "82.5"]


def test_finetuning_has_a_table_of_its_own():
    heading, *body = table(found(), found(protocol="finetune", value=0.9), title="Fine-tuned")
    assert heading == ["", "ucf101 finetune fold 1, top1"]
    assert body[0] == ["paper: XKD, Kinetics-400", "94.1"]
    assert body[-1] == ["runs/xkd (teacher)", "90.0"]
    assert table(found(), title="Fine-tuned") is None


def test_each_modality_has_a_column_and_both_too():
    one = found("kinetics_sound", modalities=("video", "audio", "both"), folds=(None,))
    heading, *body = table(one)
    assert heading[1:] == [f"kinetics_sound svm {modality}, top1" for modality in ("video", "audio", "both")]
    assert body[0] == ["paper: XKD, Kinetics-400", "70.7", "64.6", "81.2"]


def test_results_on_other_data_or_folds_are_never_in_one_column_and_it_is_said():
    cases = [(found(identities=OTHER), 2), (found(folds=(2,)), 2), (found(), 1)]
    for other, columns in cases:
        one = found(net="runs/another", value=0.25)
        heading, lines = ours(one, other)
        assert len(heading) == 1 + columns
        assert len(set(heading)) == len(heading)
        assert all(line.count("-") == columns - 1 for line in lines)
        rows = rows_of([Result("a", one), Result("b", other)])
        assert len(mixed_data(rows)) == (columns > 1)
    heading, _ = ours(found(), found(identities=OTHER, net="b"))
    assert heading[1:] == ["ucf101 svm fold 1 data aaaaaaaa, top1", "ucf101 svm fold 1 data aaaaaaaa/bbbbbbbb, top1"]


def test_several_folds_come_with_their_deviation():
    _, lines = ours(found(folds=(1, 2, 3), value=0.8))
    assert lines == [["runs/xkd (teacher)", "80.0 +- 2.0"]]
    assert table(found(folds=(1, 2, 3)))[0][1] == "ucf101 svm 3 folds, top1"


@pytest.mark.parametrize(
    ("changes", "starred"),
    [
        ({"counts": (13320, 13320)}, False),
        ({"counts": (13320, 13319)}, True),
        ({"leaks": [["a", "b"]]}, True),
        ({"counts": (None, 3)}, False),
    ],
)
def test_a_number_that_is_not_comparable_has_a_star(changes, starred):
    _, lines = ours(found(**changes))
    assert lines[0][1] == ("50.0\\*" if starred else "50.0")


def test_one_net_has_one_row_over_all_protocols_and_modalities():
    results = [found(), found("esc50", modalities=("audio",)), found("hmdb51"), found(protocol="knn")]
    assert len(rows_of([Result(str(number), one) for number, one in enumerate(results)])) == 1


@pytest.mark.parametrize("second", [{}, {"checksum": "1"}])
def test_a_net_that_was_evaluated_twice_or_has_changed_has_two_rows_with_their_files(second):
    _, lines = ours(found(value=0.5), found(value=0.6, **second))
    assert lines == [["runs/xkd (teacher): 0.json", "50.0"], ["runs/xkd (teacher): 1.json", "60.0"]]


def test_results_are_found_in_files_and_below_folders_each_once(tmp_path):
    files = leave(tmp_path, found(), found("hmdb51"))
    assert [one.path for one in read_results([tmp_path])] == files
    assert [one.path for one in read_results([files[1], tmp_path])] == [files[1], files[0]]


def test_what_holds_no_result_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path}: holds no results.json; give what `xkd eval` wrote"):
        read_results([tmp_path])
    for text, says in (("{", "is not json"), ("{}", "is not a result of format 1"), ("[]", "is not a result of format 1")):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(ValueError, match=rf"{tmp_path}/results.json: {says}"):
            read_results([tmp_path])
