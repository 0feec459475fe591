"""torch-cam's side of a comparison, run in an environment with PyTorch and no TensorFlow.

It prepares Grad-CAM of every layer of a ResNet50 and prints the number of layers. Then, for each
line that it reads, it explains one batch and prints a line.

    python torch_cam.py BATCH IMAGE_SIZE CLASSES THREADS contiguous_format|channels_last
"""

from __future__ import annotations

import sys

import torch
from pytorchcv.models.resnet import resnet50
from torch import nn
from torchcam.methods import GradCAM


def main() -> None:
    batch, size, classes, threads = map(int, sys.argv[1:5])
    layout = getattr(torch, sys.argv[5])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = resnet50(num_classes=classes).eval().to(memory_format=layout)
    model.requires_grad_(False)
    images = torch.rand(batch, 3, size, size).to(memory_format=layout).requires_grad_(True)
    kinds = nn.Conv2d | nn.BatchNorm2d | nn.ReLU | nn.MaxPool2d
    layers = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # it would overwrite the kept output of batch norm
    explain = GradCAM(model, target_layer=layers)
    print(len(layers), flush=True)
    for _ in sys.stdin:
        logits = model(images)
        maps = explain(logits.argmax(dim=1).tolist(), logits)
        print(sum(m.numel() for m in maps), flush=True)


if __name__ == "__main__":
    main()
