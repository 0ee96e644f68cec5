"""The training processes, from arguments and environment variables."""

import pytest

from keras_recnet.errors import ConfigError
from keras_recnet.parallel import Shard
from keras_recnet.training.processes import Processes, find_processes

SLURM = {"SLURM_JOB_ID": "70001", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2"}


def test_without_arguments_and_variables_there_is_one_process():
    assert find_processes(environment={}) == Processes(1, 0, None)
    assert Processes().shard is None
    # an indexed Job whose pods train independently, and a batch script of Slurm outside `srun`
    assert find_processes(environment={"JOB_COMPLETION_INDEX": "3"}).count == 1
    assert find_processes(environment={"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}).count == 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "1", "JAX_COORDINATOR_ADDRESS": "a:12"},
            Processes(3, 1, "a:12"),
        ),
        (
            {"JAX_NUM_PROCESSES": "3", "JOB_COMPLETION_INDEX": "2", "JAX_COORDINATOR_ADDRESS": "train-0.train:12"},
            Processes(3, 2, "train-0.train:12"),
        ),
        (
            {
                "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
                "KERAS_DISTRIBUTION_PROCESS_ID": "0",
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": "10.0.0.1:1234,10.0.0.2:2345",
            },
            Processes(2, 0, "10.0.0.1:1234"),
        ),
        # 70001 mod 4096 = 369
        ({**SLURM, "SLURM_STEP_NODELIST": "node[007-009,012]"}, Processes(4, 2, "node007:61809")),
        ({**SLURM, "SLURM_STEP_NODELIST": "alpha,beta"}, Processes(4, 2, "alpha:61809")),
        ({**SLURM, "SLURM_STEP_NODELIST": "gpu-3"}, Processes(4, 2, "gpu-3:61809")),
    ],
)
def test_the_environment_defines_the_processes(environment, expected):
    assert find_processes(environment=environment) == expected
    assert expected.shard == Shard(expected.index, expected.count)


def test_arguments_take_precedence():
    environment = {**SLURM, "SLURM_STEP_NODELIST": "alpha,beta"}
    assert find_processes(2, 0, "other:99", environment=environment) == Processes(2, 0, "other:99")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, None, "a:1"), r"--process: must be 0…1.*Received: None"),
        ((2, 2, "a:1"), r"--process: must be 0…1.*Received: 2"),
        ((2, 0, None), r"--coordinator: must be HOST:PORT.*Received: None"),
        ((2, 0, "host"), r"--coordinator: must be HOST:PORT.*Received: 'host'"),
    ],
)
def test_missing_and_invalid_values_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        find_processes(*arguments, environment={})
    with pytest.raises(ConfigError, match=r"JAX_NUM_PROCESSES: must be a whole number\. Received: 'two'"):
        find_processes(environment={"JAX_NUM_PROCESSES": "two"})
