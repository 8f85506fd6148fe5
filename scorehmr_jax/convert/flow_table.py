"""How the released ProHMR names the weights of its flow: nflows' names."""

import numpy as np

from scorehmr_jax.convert.image_weights import Table
from scorehmr_jax.networks.flow import ConditionalFlow


def flow_table(sizes: ConditionalFlow, ours: str = "", theirs: str = "") -> Table:
    """Names the weights of a flow.

    Args:
        sizes: of the flow.
        ours: what is before our paths.
        theirs: what is before the released names.
    """
    layers: dict[str, tuple[str, ...]] = {}
    arrays: dict[str, tuple[str, tuple[int, ...]]] = {}
    norms, known = {}, {}
    width = sizes.dim
    entries = width * (width - 1) // 2
    for i in range(sizes.layers):
        # Three transforms are a layer of ours.
        norm, lu, coupling = (f"{theirs}_transform._transforms.{3 * i + j}" for j in range(3))
        path, net = f"{ours}layers_{i}", f"{coupling}.transform_net"
        arrays |= {
            f"{path}/log_scale": (f"{norm}.log_scale", (width,)),
            f"{path}/shift": (f"{norm}.shift", (width,)),
            f"{path}/lower": (f"{lu}.lower_entries", (entries,)),
            f"{path}/upper": (f"{lu}.upper_entries", (entries,)),
            f"{path}/diagonal": (f"{lu}.unconstrained_upper_diag", (width,)),
            f"{path}/bias": (f"{lu}.bias", (width,)),
        }
        layers |= {
            f"{path}/net/input": (f"{net}.initial_layer",),
            f"{path}/net/output": (f"{net}.final_layer",),
        }
        for b in range(sizes.blocks):
            block, own = f"{net}.blocks.{b}", f"{path}/net/blocks_{b}"
            layers[f"{own}_gate"] = (f"{block}.context_layer",)
            for half in (0, 1):
                layers[f"{own}_linear{half + 1}"] = (f"{block}.linear_layers.{half}",)
                if sizes.normed:
                    norms[f"{own}_norm{half + 1}"] = f"{block}.batch_norm_layers.{half}"
        known[f"{norm}.initialized"] = np.array(True)
        kept = np.arange(i % 2, width, 2)
        known[f"{coupling}.identity_features"] = kept
        known[f"{coupling}.transform_features"] = np.setdiff1d(np.arange(width), kept)
    return Table((f"{theirs}_transform.",), (), layers, arrays, {}, norms, known)
