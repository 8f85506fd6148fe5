"""The same tables on the open benchmark, for whoever has none of the licensed data.

Columns are the strengths of the simulated network; the priors are the shipped ones.
"""

from scorehmr_jax.evaluation.tables.layout import Column, Row, Table
from scorehmr_jax.evaluation.tables.paper import noise_rows, step_rows

STRENGTHS = ("weak", "medium", "strong")
START = "simulated"
_PRIORS = ("open-uncond", "open-cond")
_NOTE = "Stand-in: simulated estimates and detections of real motion; no figure is the paper's."


def _columns(setting: str, *metrics: str) -> tuple[Column, ...]:
    return tuple(
        Column(f"open-{setting}-{strength}", metric, strength)
        for strength in STRENGTHS
        for metric in metrics
    )


def _rows(*baselines: tuple[str, str]) -> tuple[Row, ...]:
    return (
        Row("first estimate", START),
        *(Row(f"+ {title}", START, name) for name, title in baselines),
        *(Row(f"+ ScoreHMR, {prior}", START, "scorehmr", prior) for prior in _PRIORS),
        *(Row(f"+ default mode, {prior}", START, "default", prior) for prior in _PRIORS),
    )


_ADAM = (("adam-free", "Adam"), ("adam-pull", "Adam with a pull"))
_FITTING = (("smplify", "SMPLify"), ("flow", "flow fitting"))
_DPOSER = (("dposer", "diffusion regularisation"),)
_MANNERS = (("view-mean", "mean of the views"), ("view-median", "median of the views"))
_SMOOTHERS = (
    ("one-euro", "one-euro filter"),
    ("savitzky-golay", "Savitzky-Golay filter"),
    ("gaussian", "Gaussian filter"),
)

OPEN_TABLES = {
    table.name: table
    for table in (
        Table(
            "table1",
            "Priors of different condition; PA-MPJPE, mm",
            _columns("keypoints", "re"),
            (
                Row("first estimate", START),
                *(Row(f"+ ScoreHMR, {prior}", START, "scorehmr", prior) for prior in _PRIORS),
            ),
            (_NOTE,),
        ),
        Table(
            "table2",
            "Fitting to 2D keypoints of single images; PA-MPJPE, mm",
            _columns("keypoints", "re"),
            _rows(*_FITTING, *_ADAM, *_DPOSER),
            (_NOTE,),
        ),
        Table(
            "table3",
            "Several uncalibrated views, mm",
            _columns("multiview", "mpjpe", "re"),
            _rows(*_MANNERS, ("flow", "flow fitting"), *_ADAM),
            (
                _NOTE,
                "The default mode has keypoints too, the others the views' agreement alone.",
            ),
        ),
        Table(
            "table4",
            "Videos; PA-MPJPE, mm, and acceleration error, mm/frame^2",
            _columns("video", "re", "accel"),
            _rows(("smplify-temporal", "temporal SMPLify"), *_SMOOTHERS, _FITTING[1], *_ADAM),
            (_NOTE,),
        ),
        Table(
            "table5",
            "Priors of the pose alone, and of pose and shape; PA-MPJPE, mm",
            _columns("keypoints", "re"),
            (
                Row("+ ScoreHMR with shape", START, "scorehmr", "with-shape"),
                Row("+ ScoreHMR, open-uncond", START, "scorehmr", "open-uncond"),
            ),
            (_NOTE,),
        ),
        Table(
            "ablation-noise",
            "The level that is inverted to; PA-MPJPE, mm",
            _columns("keypoints", "re"),
            noise_rows(START, "open-cond", 3, published=False),
            (_NOTE,),
            axis="noise level tau",
        ),
        Table(
            "ablation-step",
            "Levels between two steps; PA-MPJPE, mm",
            _columns("keypoints", "re"),
            step_rows(START, "open-cond", 3, published=False),
            (_NOTE,),
            axis="DDIM step",
        ),
    )
}
