"""The peer's side of a comparison, run by an environment that has PyTorch and no TensorFlow.

Prepares torch-cam's Grad-CAM of every layer of a ResNet50, prints how many layers these are, and
then explains one batch for every line that it reads, answering each with a line.

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
            module.inplace = False  # would overwrite the batch normalization's kept values
    explain = GradCAM(model, target_layer=layers)
    print(len(layers), flush=True)
    for _ in sys.stdin:
        logits = model(images)
        maps = explain(logits.argmax(dim=1).tolist(), logits)
        print(sum(m.numel() for m in maps), flush=True)


if __name__ == "__main__":
    main()
