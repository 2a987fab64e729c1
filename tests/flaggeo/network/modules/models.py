"""Modules of many structures, with small widths that differ, and examples of their inputs."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


def seeded(build, *arguments, **named):
    """A module with numbers of its own in every parameter and buffer, so that no norm is the identity."""
    torch.manual_seed(0)
    module = build(*arguments, **named)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.copy_(0.5 + torch.rand(tensor.shape))
    return module.eval()


class Mlp(nn.Module):
    def __init__(self, *widths):
        super().__init__()
        for number, (fan_in, fan_out) in enumerate(pairwise(widths), 1):
            setattr(self, f"fc{number}", nn.Linear(fan_in, fan_out))
        self.depth = len(widths) - 1

    def forward(self, x):
        for number, activate in zip(
            range(1, self.depth), (functional.relu, torch.tanh, functional.gelu, nn.Identity()), strict=False
        ):
            x = activate(getattr(self, f"fc{number}")(x))
        return getattr(self, f"fc{self.depth}")(x)


class BasicBlock(nn.Module):
    def __init__(self, fan_in, fan_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, fan_out + 1, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(fan_out + 1)
        self.conv2 = nn.Conv2d(fan_out + 1, fan_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(fan_out)
        self.down = None
        if fan_in != fan_out:
            self.down = nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride, bias=False), nn.BatchNorm2d(fan_out))

    def forward(self, x):
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + (x if self.down is None else self.down(x)))


class ResNet(nn.Module):
    """Shaped like ResNet-18."""

    def __init__(self, widths=(8, 12, 16, 20), depth=2):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        before = (widths[0], *widths)
        for stage, width in enumerate(widths):
            blocks = [
                BasicBlock(before[stage] if block == 0 else width, width, 1 + (block == 0 < stage))
                for block in range(depth)
            ]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages = len(widths)
        self.fc = nn.Linear(widths[-1], 5)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class InvertedBlock(nn.Module):
    """A depthwise convolution, and a gate on the channels that are added."""

    def __init__(self, width, hidden):
        super().__init__()
        self.expand = nn.Conv2d(width, hidden, 1)
        self.bn = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)
        self.project = nn.Conv2d(hidden, width, 1)
        self.squeeze = nn.Linear(width, 3)
        self.excite = nn.Linear(3, width)

    def forward(self, x):
        y = self.project(functional.hardtanh(self.depthwise(functional.relu6(self.bn(self.expand(x)))), -2, 2))
        return x + y * torch.sigmoid(self.excite(functional.relu(self.squeeze(y.mean((2, 3))))))[:, :, None, None]


class Inverted(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.blocks = nn.Sequential(InvertedBlock(8, 13), InvertedBlock(8, 14), InvertedBlock(8, 15))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Dense(nn.Module):
    """Every layer reads all before it, side by side."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(6 + 4 * i) for i in range(3)])
        self.layers = nn.ModuleList([nn.Conv2d(6 + 4 * i, 4, 3, padding=1) for i in range(3)])
        self.fc = nn.Linear(18, 5)

    def forward(self, x):
        found = [self.stem(x)]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            found.append(layer(functional.relu(norm(torch.cat(found, 1)))))
        return self.fc(torch.cat(found, 1).mean((2, 3)))


class Fused(nn.Module):
    """A pre-norm block with queries, keys and values in one matrix."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 3 * width + 1), nn.Linear(3 * width + 1, width)

    def forward(self, x):
        batch, length, width = x.shape
        cut = (
            part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        queries, keys, values = cut
        mixed = (queries @ keys.mT / 2).softmax(-1) @ values
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, width=16, depth=3):
        super().__init__()
        self.token = nn.Embedding(50, width)
        self.position = nn.Parameter(torch.randn(1, 32, width))
        self.blocks = nn.ModuleList([Fused(width, 4) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 50, bias=False)

    def forward(self, tokens):
        x = self.token(tokens) + self.position[:, : tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Rms(nn.Module):
    def __init__(self, width, offset=0.0):
        super().__init__()
        self.weight, self.offset = nn.Parameter(torch.ones(width)), offset

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (self.offset + self.weight)


class RotaryBlock(nn.Module):
    """Norms of its own, rotary positions, shared keys and values, and a gated hidden layer."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before, self.between = Rms(width, 1.0), Rms(width)
        self.wq, self.wo = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.wk, self.wv = nn.Linear(width, width // 2, bias=False), nn.Linear(width, width // 2, bias=False)
        self.w1, self.w3 = nn.Linear(width, 24, bias=False), nn.Linear(width, 24, bias=False)
        self.w2 = nn.Linear(24, width, bias=False)

    def forward(self, x, cos, sin):
        batch, length, width = x.shape
        z = self.before(x)
        queries, keys, values = (
            weight(z).view(batch, length, -1, width // self.heads) for weight in (self.wq, self.wk, self.wv)
        )
        queries, keys = (self.turned(part, cos, sin) for part in (queries, keys))
        keys, values = (part.repeat_interleave(2, 2).transpose(1, 2) for part in (keys, values))
        mixed = functional.scaled_dot_product_attention(queries.transpose(1, 2), keys, values, is_causal=True)
        x = x + self.wo(mixed.transpose(1, 2).reshape(batch, length, width))
        z = self.between(x)
        return x + self.w2(functional.silu(self.w1(z)) * self.w3(z))

    @staticmethod
    def turned(part, cos, sin):
        one, other = part.chunk(2, -1)
        return torch.cat([one * cos - other * sin, other * cos + one * sin], -1)


class Rotary(nn.Module):
    def __init__(self, width=16, depth=2):
        super().__init__()
        self.token = nn.Embedding(50, width)
        self.layers = nn.ModuleList([RotaryBlock(width, 4) for _ in range(depth)])
        self.norm = Rms(width)
        self.output = nn.Linear(width, 50, bias=False)
        self.output.weight = self.token.weight
        angles = torch.arange(32.0)[:, None, None] * torch.tensor([1.0, 0.1])
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens):
        x = self.token(tokens)
        for layer in self.layers:
            x = layer(x, self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]])
        return self.output(self.norm(x))


class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.source, self.target = nn.Embedding(20, 16), nn.Embedding(30, 16)
        encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        decoder = nn.TransformerDecoderLayer(16, 2, 40, batch_first=True)
        self.encoder = nn.TransformerEncoder(encoder, 2, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, 2)
        self.head = nn.Linear(16, 30)

    def forward(self, source, target):
        return self.head(self.decoder(self.target(target), self.encoder(self.source(source))))


class Autoencoder(nn.Module):
    """Strided and transposed convolutions, with a flattened image between."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 2, 1)
        self.code = nn.Linear(8 * 4, 5)
        self.up1, self.up2 = nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.ConvTranspose2d(6, 1, 4, 2, 1)

    def forward(self, x):
        x = functional.relu(self.down2(functional.relu(self.down1(x))))
        return self.code(x.flatten(1)), self.up2(functional.relu(self.up1(x)))


class Raw(nn.Module):
    """Matrices that are no layers, one of them used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(6, 10)), nn.Parameter(torch.randn(3, 10))
        self.third = nn.Parameter(torch.randn(2, 3, 3))

    def forward(self, x):
        code = torch.tanh(x @ self.first) @ self.second.T
        return torch.einsum("kij,bj->bki", self.third, code), functional.linear(code, self.second.T)


class Shuffled(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.b(functional.channel_shuffle(self.a(x), 2))


class Routed(nn.Module):
    """Experts of which each token takes one, decided by its numbers."""

    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(20, 8)
        self.blocks = nn.ModuleList([RoutedBlock() for _ in range(2)])
        self.head = nn.Linear(8, 20)

    def forward(self, tokens):
        x = self.token(tokens).flatten(0, 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class RoutedBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.router = nn.Linear(8, 3)
        self.experts = nn.ModuleList([Mlp(8, 12, 8) for _ in range(3)])

    def forward(self, x):
        weights, chosen = self.router(x).softmax(-1).topk(1, -1)
        y = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = (chosen[:, 0] == number).nonzero()[:, 0]
            if len(rows):
                y[rows] = expert(x[rows]) * weights[rows]
        return x + y


def images(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(count, *shape, seed=1):
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(seed))


#: Modules that are built when a test asks for them, with an example of their input.
MODULES = {
    "mlp": lambda: (seeded(Mlp, 6, 10, 11, 12, 3), images(2, 6)),
    "resnet": lambda: (seeded(ResNet), images(1, 3, 32, 32)),
    "inverted": lambda: (seeded(Inverted), images(1, 3, 16, 16)),
    "dense": lambda: (seeded(Dense), images(1, 3, 8, 8)),
    "gpt": lambda: (seeded(Gpt), tokens(50, 1, 7)),
    "rotary": lambda: (seeded(Rotary), tokens(50, 1, 7)),
    "seq2seq": lambda: (seeded(Seq2Seq), (tokens(20, 1, 5), tokens(30, 1, 4))),
    "autoencoder": lambda: (seeded(Autoencoder), images(1, 1, 8, 8)),
    "raw": lambda: (seeded(Raw), images(2, 6)),
    "routed": lambda: (seeded(Routed), tokens(20, 1, 40)),
}


def transformers_vision(name):
    """A tiny model of transformers with random weights."""
    import transformers

    sizes = {
        "resnet": {"embedding_size": 8, "hidden_sizes": [12, 16], "depths": [2, 2], "layer_type": "bottleneck"},
        "convnext": {"hidden_sizes": [8, 12], "depths": [2, 2], "num_stages": 2, "layer_scale_init_value": 0.5},
        "vit": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24},
        "swin": {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    }[name]
    if name in ("vit", "swin"):
        sizes |= {"image_size": 32, "patch_size": 4 if name == "vit" else 2}
    config = transformers.AutoConfig.for_model(name, **sizes, num_labels=5)
    return seeded(transformers.AutoModelForImageClassification.from_config, config), images(1, 3, 32, 32)
