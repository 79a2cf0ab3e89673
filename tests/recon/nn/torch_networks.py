"""The networks as plain modules of PyTorch, with the names of torchvision, timm and EfficientNet-PyTorch."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from recon.nn.vgg import POOLED


def randomise(module, seed=0):
    """Weights of a trained network's size, statistics that are not those of the start."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.2, generator=generator)
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            fan = part.weight[0].numel()
            part.weight.data.normal_(0, (2 / fan) ** 0.5, generator=generator)
            if part.bias is not None:
                part.bias.data.normal_(0, 0.2, generator=generator)
    return module.eval()


class Block(nn.Module):
    def __init__(self, inputs, inner, stride, config, bias):
        super().__init__()
        outputs = inner * (4 if config.bottleneck else 1)
        shapes = [(inputs, inner, 3), (inner, outputs, 3)]
        if config.bottleneck:
            shapes = [(inputs, inner, 1), (inner, inner, 3), (inner, outputs, 1)]
        for number, (shape, step) in enumerate(zip(shapes, config.strides(stride), strict=True), 1):
            layer = nn.Conv2d(*shape, stride=step, padding=shape[2] // 2, bias=bias)
            setattr(self, f"conv{number}", layer)
            setattr(self, f"bn{number}", nn.BatchNorm2d(shape[1], eps=config.epsilon))
        self.count = len(shapes)
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=bias), nn.BatchNorm2d(outputs, eps=config.epsilon)
            )

    def forward(self, x):
        around = self.downsample(x) if hasattr(self, "downsample") else x
        for number in range(1, self.count + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            x = functional.relu(x) if number < self.count else x
        return functional.relu(x + around)


class ResNet(nn.Module):
    """torchvision's names; with a bias in every convolution Keras's network."""

    def __init__(self, config, bias=False):
        super().__init__()
        self.conv1 = nn.Conv2d(config.channels, config.width, 7, 2, 3, bias=bias)
        self.bn1 = nn.BatchNorm2d(config.width, eps=config.epsilon)
        inputs = config.width
        for stage, count in enumerate(config.stages):
            blocks = []
            for number in range(count):
                inner = config.width * 2**stage
                blocks.append(Block(inputs, inner, 2 if stage and not number else 1, config, bias))
                inputs = inner * (4 if config.bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages = len(config.stages)
        self.fc = nn.Linear(inputs, config.classes)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


class VGG(nn.Module):
    """torchvision's names."""

    def __init__(self, config):
        super().__init__()
        layers, inputs = [], config.channels
        for width, count in zip(config.widths, config.stages, strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(inputs, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if config.norm else []
                layers.append(nn.ReLU())
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(inputs * POOLED**2, config.dense), nn.ReLU(), nn.Dropout(),
            nn.Linear(config.dense, config.dense), nn.ReLU(), nn.Dropout(),
            nn.Linear(config.dense, config.classes),
        )  # fmt: skip

    def forward(self, x):
        x = functional.adaptive_avg_pool2d(self.features(x), POOLED)
        return self.classifier(x.flatten(1))


def timm_vgg(state, channels):
    """The state dictionary by timm's names, whose matrices are convolutions."""
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    renamed = OrderedDict()
    for name, array in state.items():
        layer, _, part = name.rpartition(".")
        shape = array.shape
        if layer == "classifier.0" and part == "weight":
            shape = (-1, channels, POOLED, POOLED)
        elif layer == "classifier.3" and part == "weight":
            shape = (*shape, 1, 1)
        renamed[f"{names.get(layer, layer)}.{part}"] = array.reshape(shape)
    return renamed


class SameConv(nn.Conv2d):
    """Pads as TensorFlow does."""

    def forward(self, x):
        size, stride = self.kernel_size[0], self.stride[0]
        width, height = (
            max(0, (-(-length // stride) - 1) * stride + size - length) for length in (x.shape[3], x.shape[2])
        )
        edges = (width // 2, width - width // 2, height // 2, height - height // 2)
        return super().forward(functional.pad(x, edges))


class EfficientBlock(nn.Module):
    def __init__(self, inputs, shape, epsilon):
        super().__init__()
        inner = inputs * shape.expansion
        self.around = shape.stride == 1 and inputs == shape.outputs
        if shape.expansion > 1:
            self._expand_conv = SameConv(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=epsilon)
        self._depthwise_conv = SameConv(inner, inner, shape.size, shape.stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=epsilon)
        self._project_conv = SameConv(inner, shape.outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(shape.outputs, eps=epsilon)

    def forward(self, x):
        before = x
        if hasattr(self, "_expand_conv"):
            x = functional.relu6(self._bn0(self._expand_conv(x)))
        x = functional.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + before if self.around else x


class EfficientNet(nn.Module):
    """EfficientNet-PyTorch's names."""

    def __init__(self, config):
        super().__init__()
        self._conv_stem = SameConv(config.channels, config.stem, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(config.stem, eps=config.epsilon)
        self._blocks = nn.ModuleList(
            [EfficientBlock(inputs, shape, config.epsilon) for inputs, shape in config.blocks()]
        )
        self._conv_head = SameConv(config.stages[-1].outputs, config.head, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(config.head, eps=config.epsilon)
        self._fc = nn.Linear(config.head, config.classes)

    def forward(self, x):
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        return self._fc(x.mean((2, 3)))


def timm_efficientnet(state, config):
    """The state dictionary by timm's names."""
    places = [
        (stage, block, shape) for stage, shape in enumerate(config.stages) for block in range(shape.blocks)
    ]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
             "_fc": "classifier"}  # fmt: skip
    wide = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
            "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    narrow = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    renamed = OrderedDict()
    for name, array in state.items():
        parts = name.split(".")
        if parts[0] != "_blocks":
            renamed[f"{outer[parts[0]]}.{parts[1]}"] = array
            continue
        stage, block, shape = places[int(parts[1])]
        inner = wide if shape.expansion > 1 else narrow
        renamed[f"blocks.{stage}.{block}.{inner[parts[2]]}.{parts[3]}"] = array
    return renamed


def keras_arrays(state, stages):
    """Arrays of `ResNet(..., bias=True)` by the names and in the order of axes of Keras."""
    arrays = {}
    parts = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
             "running_var": "moving_variance"}  # fmt: skip
    for name, tensor in state.items():
        words, array = name.split("."), tensor.numpy()
        if words[-1] == "num_batches_tracked":
            continue
        if words[0] == "fc":
            arrays["predictions/" + ("kernel" if words[1] == "weight" else "bias")] = array.T.copy()
            continue
        layer, is_norm = "conv1", words[0] == "bn1"
        if words[0].startswith("layer"):
            number = 0 if words[2] == "downsample" else int(words[2][-1])
            is_norm = words[3] == "1" if number == 0 else words[2].startswith("bn")
            layer = f"conv{int(words[0][5:]) + 1}_block{int(words[1]) + 1}_{number}"
        if is_norm:
            arrays[f"{layer}_bn/{parts[words[-1]]}"] = array
        elif words[-1] == "weight":
            arrays[f"{layer}_conv/kernel"] = array.transpose(2, 3, 1, 0).copy()
        else:
            arrays[f"{layer}_conv/bias"] = array
    return arrays
