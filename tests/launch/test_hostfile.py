"""Hostfiles, and what reaches the hosts."""

import shlex

import pytest
from deepspeed.launcher import runner

from xkd.launch import hostfile


def test_a_hostfile_is_read_as_deepspeed_reads_it(tmp_path):
    file = tmp_path / "hostfile"
    file.write_text("# two machines\n\ngpu001 slots=8\n  gpu002\tslots=4  # half of it\n")
    assert hostfile.read(file) == runner.fetch_hostfile(str(file)) == {"gpu001": 8, "gpu002": 4}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gpu001 slots=8\ngpu002", "line 2: 'gpu002' is not of the form `host slots=8`"),
        ("gpu001 slots=0", "line 1: 'gpu001 slots=0' is not"),
        ("gpu001 slots=4\ngpu001 slots=4", "line 2: gpu001 is there twice"),
        ("# none\n", "names no host"),
    ],
)
def test_a_wrong_hostfile_is_refused_with_its_line(text, says, tmp_path):
    (tmp_path / "hostfile").write_text(text)
    with pytest.raises(ValueError, match=says):
        hostfile.read(tmp_path / "hostfile")


def test_a_missing_hostfile_is_named(tmp_path):
    with pytest.raises(ValueError, match="none: no such file"):
        hostfile.read(tmp_path / "none")


def test_the_variables_that_travel_are_those_of_the_installed_deepspeed():
    from deepspeed.accelerator.cuda_accelerator import CUDA_Accelerator

    assert set(hostfile.CARRIED) == set(runner.EXPORT_ENVS)
    assert set(hostfile.CARRIED_FROM_GPUS) == set(CUDA_Accelerator.export_envs(None))
    assert hostfile.ENV_FILE == runner.DEEPSPEED_ENVIRONMENT_NAME
    assert str(hostfile.DEFAULT) == runner.DLTS_HOSTFILE


def test_variables_that_matter_and_stay_behind_are_named():
    environ = {"OMP_NUM_THREADS": "4", "NCCL_DEBUG": "INFO", "XKD_KERNELS": "torch", "PYTHONPATH": ".", "HOME": "/root"}
    assert hostfile.left_behind(environ, set(), gpus=0) == ["NCCL_DEBUG", "OMP_NUM_THREADS", "XKD_KERNELS"]
    assert hostfile.left_behind(environ, {"XKD_KERNELS"}, gpus=8) == ["OMP_NUM_THREADS"]


def test_deepspeeds_file_of_variables_is_read_and_checked(tmp_path):
    home, here = tmp_path / "home", tmp_path / "here"
    for folder, text in ((home, "A=1\n"), (here, "B = 2 = 3\n")):
        folder.mkdir()
        (folder / ".deepspeed_env").write_text(text)
    assert hostfile.carried_by_file((home, here)) == {"A", "B"}
    (here / ".deepspeed_env").write_text("B=2\n\n")
    with pytest.raises(ValueError, match=r"\.deepspeed_env line 2: '' is not of the form NAME=value"):
        hostfile.carried_by_file((home, here))


# As DeepSpeed's PDSHRunner.parse_user_args passes an argument on, and a shell of the host reads it.
def received(argument):
    sent = hostfile.for_remote_shell(argument)
    return shlex.split('"{}"'.format(sent.replace('"', '\\"')) if " " in sent else sent)


@pytest.mark.parametrize(
    "argument",
    ["runs/my.yaml", "lr=1e-4", "a={b:c,d:e}", "a={b: c, d: e}", "a=[4,8]", 'a="b c"', "a='b'", "a;b"],
)
def test_an_argument_reaches_the_hosts_as_it_is(argument):
    assert received(argument) == [argument]


@pytest.mark.parametrize("argument", ["run_dir=$HOME/run", "a=%h", "a=`b`", "a=b\\c", "a=b!", "a=b\nc"])
def test_an_argument_that_the_shells_would_change_is_refused(argument):
    with pytest.raises(ValueError, match="does not survive pdsh"):
        hostfile.for_remote_shell(argument)
