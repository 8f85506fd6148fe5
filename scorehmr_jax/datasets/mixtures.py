"""Mixtures of training sets of the paper's models: each set's share of every batch."""


def _shares(h36m: str, coco: str, mpi_inf_3dhp: str) -> dict[str, float]:
    # As in the released code.
    return {f"h36m/{h36m}": 0.5, f"coco/{coco}": 0.3, f"mpi_inf_3dhp/{mpi_inf_3dhp}": 0.2}


MIXTURES = {
    "scorehmr-a": _shares("spin_prohmr", "spin_prohmr", "spin_prohmr"),
    "scorehmr-b": _shares("mosh_pare", "eft_pare", "eft_pare"),
    "scorehmr-b-shape": _shares("mosh_pare_shape", "eft_pare_shape", "eft_pare_shape"),
}
