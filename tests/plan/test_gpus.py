import pytest

from xkd.plan.gpus import GPUS, parse_fleet


@pytest.mark.parametrize("name", GPUS)
def test_every_gpu_has_a_peak_and_is_found_however_it_is_spelled(name):
    fleet = parse_fleet(f"16x{name.lower()}")
    assert (fleet.name, fleet.count, fleet.nodes) == (name, 16, 2)
    assert 100 < fleet.tflops < 3000
    assert 20 < fleet.memory_gib < 300


def test_one_gpu_needs_no_number_and_nodes_may_be_of_any_size():
    assert parse_fleet("H100").count == 1
    assert str(parse_fleet("12xH100", per_node=4)) == "12 x H100 (80 GiB, 989 TFLOP/s) on 3 nodes of 4"


def test_an_unknown_gpu_is_answered_with_those_that_are_known_and_taken_with_its_numbers():
    with pytest.raises(ValueError, match=r"--gpus: 'X9' is not one of H100, .*--gpu-tflops .* and --gpu-memory-gib"):
        parse_fleet("8xX9", tflops=400)
    fleet = parse_fleet("8xX9", tflops=400, memory_gib=64)
    assert (fleet.tflops, fleet.memory_gib, fleet.nvdec_engines) == (400, 64, None)


@pytest.mark.parametrize("text", ["", "16", "0xH100", "16 H100", "-2xH100", "x"])
def test_other_forms_are_refused(text):
    with pytest.raises(ValueError, match="--gpus"):
        parse_fleet(text)
