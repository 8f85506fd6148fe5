"""The networks that look at pictures in plain PyTorch, to be timed beside ours.

Their tensors go by the released names, so that ours run with the same weights.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor


def unit(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """A block of convolutions conv1, bn1, conv2, ... around which the input goes too."""

    def __init__(self, *layers: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.count = len(layers)
        for i, layer in enumerate(layers, start=1):
            conv, norm = unit(*layer)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", norm)
        inputs, outputs = layers[0][0], layers[-1][1]
        stride = max(layer[3] for layer in layers)
        self.downsample = None
        if inputs != outputs or stride > 1:
            self.downsample = nn.Sequential(*unit(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.count else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def bottleneck(inputs: int, width: int, stride: int = 1) -> Residual:
    return Residual((inputs, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1))


def basic(width: int) -> Residual:
    return Residual((width, width, 3, 1), (width, width, 3, 1))


class ResNet50(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = unit(3, 64, 7, 2)
        inputs = 64
        for stage, (blocks, width) in enumerate(
            zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)
        ):
            layers = []
            for block in range(blocks):
                layers.append(bottleneck(inputs, width, 2 if stage and not block else 1))
                inputs = 4 * width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return {"img_feats": x.mean((2, 3))}


class Exchange(nn.Module):
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(basic(width) for _ in range(4))) for width in widths
        )
        self.fuse_layers = nn.ModuleList()
        for i, width in enumerate(widths):
            row = nn.ModuleList()
            for j, given in enumerate(widths):
                if i == j:
                    row.append(nn.Identity())
                elif j > i:
                    row.append(
                        nn.Sequential(
                            *unit(given, width, 1), nn.Upsample(scale_factor=2 ** (j - i))
                        )
                    )
                else:
                    steps = [
                        nn.Sequential(*unit(given, given, 3, 2), nn.ReLU())
                        for _ in range(i - j - 1)
                    ]
                    row.append(nn.Sequential(*steps, nn.Sequential(*unit(given, width, 3, 2))))
            self.fuse_layers.append(row)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [
            F.relu(sum(fuse(x) for fuse, x in zip(row, maps, strict=True)))  # type: ignore[arg-type]
            for row in self.fuse_layers  # type: ignore[arg-type]
        ]


class HRNet(nn.Module):
    def __init__(self, width: int = 32, exchanges: tuple[int, ...] = (1, 4, 3)) -> None:
        super().__init__()
        self.conv1, self.bn1 = unit(3, 64, 3, 2)
        self.conv2, self.bn2 = unit(64, 64, 3, 2)
        self.layer1 = nn.Sequential(*(bottleneck(256 if i else 64, 64) for i in range(4)))
        widths = [width * 2**i for i in range(4)]
        narrowed = nn.Sequential(*unit(256, width), nn.ReLU())
        coarser = nn.Sequential(nn.Sequential(*unit(256, widths[1], 3, 2), nn.ReLU()))
        self.transition1 = nn.ModuleList([narrowed, coarser])
        for stage, count in enumerate(exchanges, start=2):
            if stage > 2:
                added = unit(widths[stage - 2], widths[stage - 1], 3, 2)
                new = nn.Sequential(nn.Sequential(*added, nn.ReLU()))
                kept = [nn.Identity() for _ in range(stage - 1)]
                self.add_module(f"transition{stage - 1}", nn.ModuleList([*kept, new]))
            modules = [Exchange(widths[:stage]) for _ in range(count)]
            self.add_module(f"stage{stage}", nn.Sequential(*modules))
        for level in range(1, 4):
            steps: list[nn.Module] = []
            for _ in range(level):
                up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
                steps += [up, *unit(widths[level], widths[level]), nn.ReLU()]
            self.add_module(f"upsample_stage_{level + 1}", nn.Sequential(*steps))
        self.final_layer = nn.Conv2d(width, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer1(F.relu(self.bn2(self.conv2(x))))
        maps = [x]
        for stage in (2, 3, 4):
            steps = getattr(self, f"transition{stage - 1}")
            maps = [steps[i](maps[min(i, len(maps) - 1)]) for i in range(stage)]
            maps = getattr(self, f"stage{stage}")(maps)
        finer = [getattr(self, f"upsample_stage_{i + 1}")(maps[i]) for i in range(1, 4)]
        return torch.cat([maps[0], *finer], 1)


class PAREHead(nn.Module):
    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        for name, outputs in (("keypoint", 25), ("smpl", channels // 2)):
            first, second = unit(480, channels), unit(channels, channels)
            layers = nn.Sequential(*first, nn.ReLU(), *second, nn.ReLU())
            self.add_module(f"{name}_deconv_layers", layers)
            self.add_module(f"{name}_final_layer", nn.Conv2d(channels, outputs, 1))
        self.shape_mlp = nn.Linear(24 * channels // 2, 10)
        self.cam_mlp = nn.Linear(24 * channels // 2, 3)
        self.pose_mlp = nn.Module()
        self.pose_mlp.weight = nn.Parameter(torch.randn(1, 6, channels, 24, 1, 1) / channels**0.5)
        for key, shape in (("temperature", ()), ("init_pose", (1, 144))):
            self.register_buffer(key, torch.ones(shape))
        for key, shape in (("init_shape", (1, 10)), ("init_cam", (1, 3))):
            self.register_buffer(key, torch.zeros(shape))

    def forward(self, seen: Tensor) -> dict[str, Tensor]:
        parts = self.keypoint_final_layer(self.keypoint_deconv_layers(seen))[:, 1:]
        body = self.smpl_deconv_layers(seen)
        attention = parts.flatten(2).softmax(-1).transpose(1, 2)
        pose_feats = body.flatten(2) @ attention
        cam_shape_feats = self.smpl_final_layer(body).flatten(2) @ attention
        flat = cam_shape_feats.flatten(1)
        six_d = torch.einsum("ncj,ocj->njo", pose_feats, self.pose_mlp.weight[0, ..., 0, 0])
        return {
            "pose_feats": pose_feats,
            "cam_shape_feats": cam_shape_feats,
            "pred_pose": matrices(six_d),
            "pred_betas": self.shape_mlp(flat),
            "pred_cam": self.cam_mlp(flat),
        }


class PARE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = HRNet(), PAREHead()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.head(self.backbone(x))


def matrices(six_d: Tensor) -> Tensor:
    first = F.normalize(six_d[..., :3], dim=-1)
    second = six_d[..., 3:]
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def attended(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """A block of the ViT."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.attn.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.attn.proj(attended(query, key, value, self.heads))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, depth: int, width: int = 1280) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, 16, 16, 2)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 193, width))
        self.blocks = nn.Sequential(*(Block(width, 16) for _ in range(depth)))
        self.last_norm = nn.LayerNorm(width, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        return self.last_norm(self.blocks(x + self.pos_embed[:, 1:] + self.pos_embed[:, :1]))


class Step(nn.Module):
    """A norm and what follows it, as the released decoder nests them."""

    def __init__(self, width: int, **layers: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width), nn.ModuleDict(layers)


class Decoder(nn.Module):
    def __init__(self, width: int = 1024, seen: int = 1280, inner: int = 512) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.to_token_embedding = nn.Linear(1, width)
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Step(
                        width,
                        to_qkv=nn.Linear(width, 3 * inner, bias=False),
                        to_out=nn.Sequential(nn.Linear(inner, width)),
                    ),
                    Step(
                        width,
                        to_q=nn.Linear(width, inner, bias=False),
                        to_kv=nn.Linear(seen, 2 * inner, bias=False),
                        to_out=nn.Sequential(nn.Linear(inner, width)),
                    ),
                    Step(
                        width,
                        net=nn.Sequential(
                            nn.Linear(width, width),
                            nn.GELU(),
                            nn.Identity(),
                            nn.Linear(width, width),
                        ),
                    ),
                ]
            )
            for _ in range(6)
        )

    def forward(self, seen: Tensor) -> Tensor:
        x = self.to_token_embedding(torch.zeros_like(seen[:, :1, :1])) + self.pos_embedding
        for itself, picture, thought in self.transformer.layers:
            query, key, value = itself.fn.to_qkv(itself.norm(x)).chunk(3, -1)
            x = x + itself.fn.to_out(attended(query, key, value, 8))
            key, value = picture.fn.to_kv(seen).chunk(2, -1)
            x = x + picture.fn.to_out(attended(picture.fn.to_q(picture.norm(x)), key, value, 8))
            x = x + thought.fn.net(thought.norm(x))
        return x[:, 0]


class HMR2(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.backbone, self.smpl_head = ViT(depth), nn.Module()
        head = self.smpl_head
        head.transformer = Decoder()
        head.decpose, head.decshape, head.deccam = (nn.Linear(1024, n) for n in (144, 10, 3))
        for name, numbers in (("init_body_pose", 144), ("init_betas", 10), ("init_cam", 3)):
            head.register_buffer(name, torch.rand(1, numbers))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        head = self.smpl_head
        token = head.transformer(self.backbone(x[..., 32:-32]))
        six_d = (head.decpose(token) + head.init_body_pose).unflatten(-1, (24, 6))
        return {
            "pred_pose": matrices(six_d),
            "pred_betas": head.decshape(token) + head.init_betas,
            "pred_cam": head.deccam(token) + head.init_cam,
        }


def lively(network: Any) -> Any:
    """Gives every norm statistics of its own, as a trained network has."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
        if name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return network.eval()
