"""How the released checkpoints name the weights of the networks that look at pictures."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from scorehmr_jax.convert.flow_table import flow_table
from scorehmr_jax.convert.image_weights import Table
from scorehmr_jax.networks.hmr2 import HMR2, SIDES
from scorehmr_jax.networks.hrnet import BLOCKS
from scorehmr_jax.networks.pare import PARE, PARTS
from scorehmr_jax.networks.prohmr import CAMERA, SHAPE, ProHMR
from scorehmr_jax.networks.vit import PATCH

Layers = dict[str, tuple[str, ...]]  # our layer -> the released one, and the norm after it


def prohmr_table(network: ProHMR) -> Table:
    """Names ProHMR, or its encoder alone."""
    layers: Layers = {"conv1": ("backbone.conv1", "backbone.bn1")}
    for stage, blocks in enumerate(network.blocks, start=1):
        for block in range(blocks):
            key = f"backbone.layer{stage}.{block}"
            layers |= _bottleneck(f"layer{stage}_{block}", key, with_shortcut=block == 0)
    beside = ("smpl", "discriminator", "initialized")
    if not network.gives_estimate:
        return Table(("backbone.",), beside, layers)
    flow = flow_table(network.flow, "flow/", "flow.flow.")
    layers |= {"head_hidden": ("flow.fc_head.layers.0",), "head": ("flow.fc_head.layers.2",)}
    means = {
        "mean_betas": ("flow.fc_head.init_betas", (1, 1, SHAPE)),
        "mean_camera": ("flow.fc_head.init_cam", (1, 1, CAMERA)),
    }
    return replace(
        flow,
        parts=("backbone.", "flow."),
        beside=beside,
        layers={**layers, **flow.layers},
        arrays={**means, **flow.arrays},
    )


def _bottleneck(ours: str, key: str, with_shortcut: bool) -> Layers:
    layers: Layers = {f"{ours}/conv{i}": (f"{key}.conv{i}", f"{key}.bn{i}") for i in (1, 2, 3)}
    if with_shortcut:
        layers[f"{ours}/shortcut"] = (f"{key}.downsample.0", f"{key}.downsample.1")
    return layers


def pare_table(network: PARE) -> Table:
    """Names PARE on HRNet-W32 with the convolutional up-sampling."""
    layers: Layers = {
        "head/parts": ("head.keypoint_final_layer",),
        "head/cam_shape": ("head.smpl_final_layer",),
        "head/shape": ("head.shape_mlp",),
        "head/camera": ("head.cam_mlp",),
    }
    for ours, key in (("parts", "keypoint"), ("body", "smpl")):
        layers |= {
            f"head/{ours}_{i}": _conv_and_norm(f"head.{key}_deconv_layers", 3 * i) for i in (0, 1)
        }
    layers |= {f"backbone/{path}": keys for path, keys in _hrnet(network.exchanges).items()}
    return Table(
        ("backbone.", "head."),
        ("smpl",),
        layers,
        {"head/pose": ("head.pose_mlp.weight", (1, 6, network.channels, PARTS, 1, 1))},
        # A layer for keypoints; the sharpness and the mean body of other forms of the head.
        {
            "backbone.final_layer.weight": (PARTS, network.width, 1, 1),
            "backbone.final_layer.bias": (PARTS,),
            "head.temperature": (),
            "head.init_pose": (1, 144),
            "head.init_shape": (1, 10),
            "head.init_cam": (1, 3),
        },
    )


def _hrnet(exchanges: tuple[int, ...]) -> Layers:
    layers: Layers = {f"conv{i}": (f"backbone.conv{i}", f"backbone.bn{i}") for i in (1, 2)}
    for block in range(BLOCKS):
        layers |= _bottleneck(f"layer1_{block}", f"backbone.layer1.{block}", block == 0)
    layers["transition1/narrowed"] = _conv_and_norm("backbone.transition1.0", 0)
    for stage, count in enumerate(exchanges, start=2):
        key = f"backbone.transition{stage - 1}.{stage - 1}.0"
        layers[f"transition{stage - 1}/coarser"] = _conv_and_norm(key, 0)
        for i in range(count):
            names = _exchange(f"backbone.stage{stage}.{i}", stage)
            layers |= {f"stage{stage}_{i}/{path}": keys for path, keys in names.items()}
    for level in range(1, len(exchanges) + 1):
        for step in range(level):
            # Of four things in a step (enlarging, convolution, norm, ReLU) the second and third.
            keys = _conv_and_norm(f"backbone.upsample_stage_{level + 1}", 4 * step + 1)
            layers[f"upsample/level{level}_{step}"] = keys
    return layers


def _exchange(key: str, resolutions: int) -> Layers:
    layers: Layers = {}
    for i in range(resolutions):
        for block in range(BLOCKS):
            for conv in (1, 2):
                inner = f"{key}.branches.{i}.{block}"
                layers[f"branch{i}_{block}/conv{conv}"] = (
                    f"{inner}.conv{conv}",
                    f"{inner}.bn{conv}",
                )
        for j in range(resolutions):
            fuse = f"{key}.fuse_layers.{i}.{j}"
            if j > i:
                layers[f"fuse{i}_{j}"] = _conv_and_norm(fuse, 0)
            for step in range(i - j):
                layers[f"fuse{i}_{j}_{step}"] = _conv_and_norm(f"{fuse}.{step}", 0)
    return layers


def _conv_and_norm(sequence: str, number: int) -> tuple[str, ...]:
    """A convolution by its number in a sequence of layers, and the norm that follows it."""
    return f"{sequence}.{number}", f"{sequence}.{number + 1}"


def hmr2_table(network: HMR2) -> Table:
    """Names HMR 2.0, a and b alike."""
    layers: Layers = {
        "backbone/patches": ("backbone.patch_embed.proj",),
        "backbone/norm": ("backbone.last_norm",),
        "head/token": ("smpl_head.transformer.to_token_embedding",),
        "head/pose": ("smpl_head.decpose",),
        "head/betas": ("smpl_head.decshape",),
        "head/camera": ("smpl_head.deccam",),
    }
    for i in range(network.depth):
        layers |= {
            f"backbone/block{i}/{o}": (f"backbone.blocks.{i}.{t}",) for o, t in _BLOCK.items()
        }
    for i in range(network.decoder_depth):
        key = f"smpl_head.transformer.transformer.layers.{i}"
        layers |= {f"head/layer{i}/{o}": (f"{key}.{t}",) for o, t in _DECODER_LAYER.items()}
    tokens = (network.crop.size // PATCH) * ((network.crop.size - 2 * SIDES) // PATCH)
    return Table(
        ("backbone.", "smpl_head."),
        ("smpl", "discriminator", "initialized"),
        layers,
        {
            "backbone/places": ("backbone.pos_embed", (1, tokens + 1, network.width)),
            "head/place": ("smpl_head.transformer.pos_embedding", (1, 1, network.decoder_width)),
            "head/mean_pose": ("smpl_head.init_body_pose", (1, 144)),
            "head/mean_betas": ("smpl_head.init_betas", (1, 10)),
            "head/mean_camera": ("smpl_head.init_cam", (1, 3)),
        },
    )


_BLOCK = {
    "norm1": "norm1",
    "attention/qkv": "attn.qkv",
    "attention/out": "attn.proj",
    "norm2": "norm2",
    "mlp/hidden": "mlp.fc1",
    "mlp/out": "mlp.fc2",
}
_DECODER_LAYER = {
    "norm1": "0.norm",
    "self_attention/qkv": "0.fn.to_qkv",
    "self_attention/out": "0.fn.to_out.0",
    "norm2": "1.norm",
    "cross_attention/query": "1.fn.to_q",
    "cross_attention/key_value": "1.fn.to_kv",
    "cross_attention/out": "1.fn.to_out.0",
    "norm3": "2.norm",
    "mlp/hidden": "2.fn.net.0",
    "mlp/out": "2.fn.net.3",
}


# What IMAGE_NETWORKS calls it -> from its sizes to its table.
TABLES: Mapping[str, Callable[[Any], Table]] = {
    "prohmr": prohmr_table,
    "pare": pare_table,
    "hmr2": hmr2_table,
}
