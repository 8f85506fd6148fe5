"""The tables of the paper, with its figures, and those of newer work on the same benchmarks.

Of arXiv 2403.09623: Table 1 compares features and fits of the prior, 2 methods that fit single
images, 3 several views, 4 videos, and 5 (supplement, F) priors with and without shape. The two
ablations and HMR 2.0a are in the supplement. LFMM has no figure on EMDB, and Table 5's are not at
hand: such cells stay empty.
"""

from collections.abc import Mapping, Sequence

from scorehmr_jax.evaluation.tables.layout import ESTIMATE, PAPER, Column, Row, Table

# The paper's two priors, by features and fits.
PRIOR_A, PRIOR_B = "prohmr-spin", "pare-eft"
_PRIORS = {
    PRIOR_A: "ProHMR features, SPIN fits",
    "prohmr-eft": "ProHMR features, EFT fits",
    "pare-spin": "PARE features, SPIN fits",
    PRIOR_B: "PARE features, EFT fits",
}
NETWORKS = {"prohmr": "ProHMR", "hmr2b": "HMR 2.0b", "hmr2a": "HMR 2.0a", "vibe": "VIBE"}
_METHODS = {
    "smplify": "+ SMPLify",
    "smplify-temporal": "+ VIBE-opt",
    "flow": "+ ProHMR fitting",
}
_SINGLE = (Column("3dpw", "re", "3DPW (14)"), Column("emdb1", "re", "EMDB 1 (24)"))
_VIEWS = tuple(
    Column(protocol, metric, title)
    for protocol, title in (("h36m-multiview", "H36M (14)"), ("mannequin", "Mannequin (17)"))
    for metric in ("mpjpe", "re")
)
_VIDEO = tuple(
    Column(protocol, metric, title)
    for protocol, title in (("3dpw-video", "3DPW (14)"), ("emdb1-video", "EMDB 1 (24)"))
    for metric in ("re", "accel")
)

_OWN_WEIGHTS = (
    "Here SMPLify has the shipped mixture of poses, and ProHMR's fitting the shipped flow, whose "
    "condition is the first estimate: not the weights of the published figures."
)
Figures = tuple[float | None, ...]


def _of(start: str, figures: Mapping[str, Figures], source: str = PAPER) -> list[Row]:
    """Rows from one network: itself, baselines by method, and the loop by prior."""
    rows = []
    for name, published in figures.items():
        if name == ESTIMATE:
            rows.append(Row(NETWORKS[start], start, published=published, source=source))
        elif name in _METHODS:
            rows.append(Row(_METHODS[name], start, name, published=published, source=source))
        elif name == "default":
            rows.append(Row("+ default mode", start, "default", PRIOR_B))
        else:
            title = {PRIOR_A: "+ ScoreHMR-a", PRIOR_B: "+ ScoreHMR-b"}[name]
            rows.append(Row(title, start, "scorehmr", name, published, source))
    return rows


def _features_and_fits(start: str, own: Figures, figures: Sequence[Figures]) -> list[Row]:
    rows = [Row(NETWORKS[start], start, published=own)]
    for (prior, title), published in zip(_PRIORS.items(), figures, strict=True):
        rows.append(Row(f"+ ScoreHMR, {title}", start, "scorehmr", prior, published))
    return rows


_TABLE_1 = Table(
    "table1",
    "Features and fits of the prior; PA-MPJPE, mm",
    _SINGLE,
    (
        *_features_and_fits(
            "prohmr", (59.8, 86.1), ((55.7, 77.8), (55.5, 77.4), (55.6, 77.4), (54.7, 77.1))
        ),
        *_features_and_fits(
            "hmr2b", (54.3, 78.7), ((52.4, 76.5), (51.3, 76.4), (52.4, 76.6), (51.1, 76.6))
        ),
    ),
)

_PHD = "published by PHD, with boxes of its own"
_TABLE_2 = Table(
    "table2",
    "Fitting to 2D keypoints of single images; PA-MPJPE, mm",
    _SINGLE,
    (
        Row("LGD", published=(55.9, 81.1)),
        Row("LFMM", published=(52.2, None)),
        *_of(
            "prohmr",
            {
                ESTIMATE: (59.8, 86.1),
                "smplify": (60.9, 84.6),
                "flow": (55.1, 79.8),
                PRIOR_A: (55.7, 77.8),
                PRIOR_B: (54.7, 77.1),
                "default": (),
            },
        ),
        *_of(
            "hmr2b",
            {
                ESTIMATE: (54.3, 78.7),
                "smplify": (60.1, 83.5),
                "flow": (55.1, 80.1),
                PRIOR_A: (52.4, 76.5),
                PRIOR_B: (51.1, 76.6),
                "default": (),
            },
        ),
        *_of(
            "hmr2a",
            {
                ESTIMATE: (44.5, None),
                "smplify": (52.5, None),
                "flow": (54.9, None),
                PRIOR_B: (42.5, None),
                "default": (),
            },
            "the paper's supplement",
        ),
        Row("HMR 2.0b", published=(None, 77.9), source=_PHD),
        Row("+ ScoreHMR", published=(None, 70.0), source=_PHD),
        Row("+ PHD", published=(None, 47.4), source=_PHD),
        Row("CameraHMR", published=(None, 43.3), source=_PHD),
        Row("+ ScoreHMR", published=(None, 45.0), source=_PHD),
        Row("+ PHD", published=(None, 42.4), source=_PHD),
        Row("SAM 3D Body", published=(33.2, 38.5), source="published by SAM 3D Body"),
    ),
    notes=(
        _OWN_WEIGHTS,
        "Figures of PHD, CameraHMR and SAM 3D Body are second-hand.",
        "Pelvis error on EMDB 1 as PHD publishes it: HMR 2.0b 144, + ScoreHMR 181, + PHD 95 mm.",
        "HeatFormer publishes MPJPE/PA-MPJPE on BEHAVE: HMR 2.0a 72.2/48.1, + ScoreHMR 72.9/49.0.",
    ),
)

_TABLE_3 = Table(
    "table3",
    "Several uncalibrated views, mm",
    _VIEWS,
    (
        *_of(
            "prohmr",
            {
                ESTIMATE: (65.1, 43.7, 165.3, 86.8),
                "flow": (59.6, 34.5, 162.6, 80.2),
                PRIOR_A: (55.8, 34.1, 162.0, 81.1),
                PRIOR_B: (51.9, 34.2, 157.7, 80.2),
                "default": (),
            },
        ),
        *_of(
            "hmr2b",
            {
                ESTIMATE: (52.8, 35.6, 156.0, 90.1),
                "flow": (52.6, 32.9, 155.5, 79.4),
                PRIOR_A: (47.9, 28.4, 151.0, 79.3),
                PRIOR_B: (44.7, 29.0, 148.3, 79.1),
                "default": (),
            },
        ),
    ),
    notes=(_OWN_WEIGHTS,),
)

_TABLE_4 = Table(
    "table4",
    "Videos; PA-MPJPE, mm, and acceleration error, mm/frame^2",
    _VIDEO,
    (
        *_of(
            "vibe",
            {
                ESTIMATE: (56.7, 31.5, 85.7, 43.8),
                "smplify-temporal": (63.9, 42.1, 83.6, 41.4),
            },
        ),
        *_of(
            "prohmr",
            {
                ESTIMATE: (59.8, 25.0, 86.1, 37.7),
                "flow": (54.5, 14.0, 77.9, 18.4),
                PRIOR_A: (54.9, 11.4, 76.5, 12.8),
                PRIOR_B: (53.9, 11.2, 75.7, 12.1),
                "default": (),
            },
        ),
        *_of(
            "hmr2b",
            {
                ESTIMATE: (54.3, 17.3, 78.7, 23.7),
                "flow": (53.8, 14.1, 76.2, 20.0),
                PRIOR_A: (51.7, 10.7, 75.1, 11.9),
                PRIOR_B: (50.5, 11.1, 75.3, 11.9),
                "default": (),
            },
        ),
    ),
    notes=(
        _OWN_WEIGHTS,
        "The paper writes mm/s^2; its code's figures are mm/frame^2, and so are these.",
    ),
)

_TABLE_5 = Table(
    "table5",
    "Priors of the pose alone, and of pose and shape; PA-MPJPE, mm",
    _SINGLE,
    tuple(
        row
        for start, alone in (("prohmr", (54.7, 77.1)), ("hmr2b", (51.1, 76.6)))
        for row in (
            Row(f"{NETWORKS[start]} + ScoreHMR-b with shape", start, "scorehmr", "with-shape"),
            Row(f"{NETWORKS[start]} + ScoreHMR-b", start, "scorehmr", PRIOR_B, alone),
        )
    ),
    notes=("The supplement's figures with shape are not at hand; it reports no gain from it.",),
)

NOISE = {50: 51.1, 100: 52.3, 200: 54.3, 300: 54.5}
STEPS = {2: 51.1, 4: 49.6, 6: 48.8, 8: 48.4, 10: 48.2, 12: 48.4}
_ALONE = (_SINGLE[0],)


def noise_rows(start: str, prior: str, columns: int, published: bool = True) -> tuple[Row, ...]:
    """Rows of the ablation of the noise level, for so many columns."""
    return tuple(
        Row(
            f"tau {tau}",
            start,
            "scorehmr",
            prior,
            (figure,) if published and columns == 1 else (),
            changes={"start": tau},
            place=tau,
        )
        for tau, figure in NOISE.items()
    )


def step_rows(start: str, prior: str, columns: int, published: bool = True) -> tuple[Row, ...]:
    """Rows of the ablation of the step; the loop starts at the last multiple up to 50."""
    return tuple(
        Row(
            f"step {step}",
            start,
            "scorehmr",
            prior,
            (figure,) if published and columns == 1 else (),
            changes={"start": 50 - 50 % step, "step": step},
            place=step,
        )
        for step, figure in STEPS.items()
    )


TABLES = {
    table.name: table
    for table in (
        _TABLE_1,
        _TABLE_2,
        _TABLE_3,
        _TABLE_4,
        _TABLE_5,
        Table(
            "ablation-noise",
            "The level that is inverted to; PA-MPJPE, mm",
            _ALONE,
            noise_rows("hmr2b", PRIOR_B, 1),
            axis="noise level tau",
        ),
        Table(
            "ablation-step",
            "Levels between two steps; PA-MPJPE, mm",
            _ALONE,
            step_rows("hmr2b", PRIOR_B, 1),
            axis="DDIM step",
        ),
    )
}
