"""The population behind the open body's shape numbers: random adults from MakeHuman's morphs."""

import numpy as np
from jaxtyping import Float

from body_model.open.makehuman import MakeHuman

FLIP = np.array([-1.0, 1.0, 1.0])  # the mirror image of a point, left for right
NUM_ADULTS = 400
HEIGHT_SPREAD = 0.05  # of MakeHuman's height slider; makes statures vary by 10 cm

# Local morphs; each has a target that ends in -decr and one in -incr.
_LOCAL = (
    "arms/measure-upperarm-length",
    "arms/measure-lowerarm-length",
    "arms/measure-upperarm-circ",
    "legs/measure-upperleg-height",
    "legs/measure-lowerleg-height",
    "legs/measure-thigh-circ",
    "legs/measure-calf-circ",
    "torso/measure-shoulder-dist",
    "torso/measure-waist-circ",
    "torso/measure-hips-circ",
    "torso/measure-bust-circ",
    "torso/measure-napetowaist-dist",
    "neck/measure-neck-height",
    "neck/measure-neck-circ",
    "head/head-scale-vert",
    "head/head-scale-horiz",
    "head/head-scale-depth",
    "stomach/stomach-tone",
    "buttocks/buttocks-volume",
    "torso/torso-vshape",
)


def random_adults(assets: MakeHuman) -> Float[np.ndarray, "N 19158 3"]:
    """Draws random people: the base mesh plus macro and local morphs, A-pose, metres."""
    rng = np.random.default_rng(0)
    people = [_random_person(rng) for _ in range(NUM_ADULTS)]
    names = sorted(set().union(*people))
    amounts = np.array([[person.get(name, 0.0) for name in names] for person in people])
    moved = np.zeros((NUM_ADULTS, assets.vertices.size), np.float32)
    for first in range(0, len(names), 64):
        chunk = assets.morphs(names[first : first + 64])
        moved += amounts[:, first : first + 64].astype(np.float32) @ chunk.reshape(len(chunk), -1)
    out = assets.vertices + moved.reshape(NUM_ADULTS, -1, 3)
    return (out + out[:, assets.mirror] * FLIP) / 2


def _random_person(rng: np.random.Generator) -> dict[str, float]:
    """Morph targets and amounts of one random adult."""
    male = rng.random() if rng.random() < 0.2 else float(rng.random() < 0.5)
    old = rng.random() ** 2
    race = rng.dirichlet([0.7] * 3)

    def between(spread: float) -> float:
        return float(np.clip(0.5 + spread * rng.standard_normal(), 0, 1))

    def three(value: float, what: str) -> dict[str, float]:
        low, high = max(1 - 2 * value, 0), max(2 * value - 1, 0)
        return {f"min{what}": low, f"average{what}": 1 - low - high, f"max{what}": high}

    muscle, weight = three(between(0.17), "muscle"), three(between(0.2), "weight")
    height, proportions = three(between(HEIGHT_SPREAD), "height"), between(0.2)
    cup = three(between(0.2), "cup")
    likeness = {"ideal": max(2 * proportions - 1, 0), "uncommon": max(1 - 2 * proportions, 0)}
    person = {}
    for gender, g in (("female", 1 - male), ("male", male)):
        for age, a in (("young", 1 - old), ("old", old)):
            for k, ethnicity in enumerate(("african", "asian", "caucasian")):
                person[f"macrodetails/{ethnicity}-{gender}-{age}"] = g * a * race[k]
            for m, w in ((m, w) for m in muscle for w in weight):
                amount = g * a * muscle[m] * weight[w]
                build = f"{gender}-{age}-{m}-{w}"
                person[f"macrodetails/universal-{build}"] = amount
                for h in ("minheight", "maxheight"):
                    person[f"macrodetails/height/{build}-{h}"] = amount * height[h]
                for p, share in likeness.items():
                    person[f"macrodetails/proportions/{build}-{p}proportions"] = amount * share
                for c in ("mincup", "maxcup") if gender == "female" else ():
                    person[f"breast/{build}-{c}-averagefirmness"] = amount * cup[c]
    for name in _LOCAL:
        value = float(np.clip(0.3 * rng.standard_normal(), -1, 1))
        person[f"{name}-{'incr' if value > 0 else 'decr'}"] = abs(value)
    return {name: amount for name, amount in person.items() if amount}
