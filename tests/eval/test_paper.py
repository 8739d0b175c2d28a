from xkd.eval.comparison import TABLES
from xkd.eval.paper import ABLATION, LINEAR, PUBLISHED
from xkd.eval.run import PROTOCOLS
from xkd.eval.tasks import TASKS

TRAINED = {"linear", "finetune"}


def test_every_number_is_of_a_task_and_a_protocol_that_there_is():
    for row in PUBLISHED + ABLATION:
        for (dataset, protocol, modality), value in row.values.items():
            assert protocol in PROTOCOLS.keys() | TRAINED
            assert modality in (*TASKS[dataset].streams, "both")
            assert 30 < value < 100


def test_the_tables_show_every_protocol():
    assert {protocol for protocols in TABLES.values() for protocol in protocols} == PROTOCOLS.keys() | TRAINED


def test_finetuning_beats_linear_where_the_paper_has_both():
    """A row whose numbers were mixed up would not."""
    pairs = []
    for row in PUBLISHED:
        for dataset in ("ucf101", "hmdb51", "kinetics400", "esc50", "fsd50k"):
            (modality,) = TASKS[dataset].streams
            pairs.append([row.values[dataset, protocol, modality] for protocol in (LINEAR[dataset], "finetune")])
    assert len(pairs) == 20
    assert all(linear < finetuned for linear, finetuned in pairs)
