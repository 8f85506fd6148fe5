"""Start of a run of several processes, from options and from the environment."""

import pytest

from scorehmr_jax.cluster import Start, plan

SLURM = {"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "node[01-04]", "SLURM_PROCID": "2"}
GKE = {
    "JAX_COORDINATOR_ADDRESS": "train-0.train:1234",
    "JAX_NUM_PROCESSES": "8",
    "JOB_COMPLETION_INDEX": "5",
}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        (SLURM, Start(cluster_detection_method="slurm")),
        (SLURM | {"SLURM_NTASKS": "1"}, None),
        # A shell of salloc has the number, but is no step.
        ({"SLURM_NTASKS": "4"}, None),
        (GKE, Start("train-0.train:1234", 8, 5)),
        (GKE | {"JAX_PROCESS_ID": "0"}, Start("train-0.train:1234", 8, 0)),
        # An index alone does not tell where the others are.
        ({"JOB_COMPLETION_INDEX": "5"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, Start()),
        ({"TPU_WORKER_HOSTNAMES": "a"}, None),
    ],
)
def test_the_environment_tells(environ, expected):
    assert plan(environ=environ) == expected


def test_explicit_values_come_first():
    assert plan("host:99", 2, 1, SLURM | GKE) == Start("host:99", 2, 1)


@pytest.mark.parametrize(
    ("values", "environ", "message"),
    [
        (("host:99", 2, None), {}, r"--process-id: expected beside --coordinator, --processes"),
        (("host", 2, 0), {}, "coordinator: expected host:port, found host"),
        (("host:99", 2, 2), {}, "--process-id: expected 0 to 1, found 2"),
        (
            (None, None, None),
            {**GKE, "JAX_NUM_PROCESSES": "many"},
            "JAX_NUM_PROCESSES, JOB_COMPLETION_INDEX: expected whole numbers, found many, 5",
        ),
        (
            (None, None, None),
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2"},
            "JOB_COMPLETION_INDEX: expected beside JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES",
        ),
    ],
)
def test_what_makes_no_sense_is_told(values, environ, message):
    with pytest.raises(ValueError, match=message):
        plan(*values, environ)
