import pytest

from xkd.benchmarks.standings import not_measured, standings

COLUMNS = {"benchmark": "loader", "case": "c", "part": "total", "rounds": "5", "items": "10", "date": "d", "gpu": "", "commit": "1"}


def row(provider, cpu_s, **columns):
    times = {"wall_p20_s": "9", "wall_p50_s": "9", "wall_p80_s": "9", "cpu_s": cpu_s, "cpu_p20_s": cpu_s, "cpu_p80_s": cpu_s}
    return {**COLUMNS, "provider": provider, **times, "not_measured": "", **columns}


def verdicts(rows):
    return {of.row["provider"]: of.verdict for of in standings(rows)}


def test_every_peer_stands_beside_ours_and_a_loss_is_told():
    rows = [row("xkd", "2"), row("slow", "4"), row("fast", "1"), row("same", "2")]
    assert verdicts(rows) == {"xkd": "", "slow": "behind", "fast": "ahead", "same": "even"}
    (_, slow, *_) = standings(rows)
    assert slow.beside_ours.ratio == pytest.approx(2)
    assert slow.milliseconds == pytest.approx(400)


def test_noise_of_the_rounds_makes_a_small_difference_even():
    assert verdicts([row("xkd", "2"), row("peer", "2.2", cpu_p20_s="1.5", cpu_p80_s="3")])["peer"] == "even"


def test_only_the_same_work_of_the_same_run_is_compared():
    rows = [row("xkd", "2"), row("other case", "4", case="e"), row("other run", "4", date="e"), row("decode: part", "1")]
    assert set(verdicts(rows).values()) == {""}
    assert verdicts([row("xkd", "2", benchmark="convert"), row("stages", "4", benchmark="convert")])["stages"] == ""


def test_the_newest_row_of_each_counts_and_parts_do_not():
    rows = [
        row("xkd", "8", commit="0"),
        row("peer", "4", commit="0"),
        row("xkd", "2"),
        row("peer", "4"),
        row("xkd", "1", part="read"),
    ]
    assert verdicts(rows) == {"xkd": "", "peer": "behind"}


def test_what_was_not_measured_is_listed_with_its_reason_until_it_is():
    empty = row("peer", "", wall_p50_s="", part="", not_measured="needs a GPU")
    assert not_measured([row("xkd", "1"), empty]) == [empty]
    assert verdicts([row("xkd", "1"), empty]) == {"xkd": ""}
    assert not_measured([empty, row("peer", "1", commit="2")]) == []
