"""A plain PyTorch loop with masks, which `pytorch.py` runs in an environment with PyTorch.

    python pytorch_loop.py DATA.npz [loader]

DATA.npz has `x`, float32 [n, features], and `y`, int64 [n]. Batches are gathered from tensors by
index, which is the fastest method in PyTorch, or with "loader" from a shuffling `DataLoader`, which
is the usual one. Weights are multiplied by their masks after each update. For each line on standard
input, the script trains LeNet-300-100 for one epoch and prints a line.
"""

import sys

import numpy as np
import torch
from torch import nn

BATCH_SIZE, SPARSITY = 128, 0.8


def batches(x, y, loader: bool):
    """Returns the shuffled batches of an epoch."""
    if loader:
        data = torch.utils.data.TensorDataset(x, y)
        return torch.utils.data.DataLoader(data, batch_size=BATCH_SIZE, shuffle=True)
    return ((x[ids], y[ids]) for ids in torch.randperm(len(x)).split(BATCH_SIZE))


def main(path: str, loader: str = "") -> None:
    """Trains one epoch for each line on standard input."""
    data = np.load(path)
    x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
    relu = nn.ReLU()
    model = nn.Sequential(
        nn.Linear(x.shape[1], 300), relu, nn.Linear(300, 100), relu, nn.Linear(100, 10)
    )
    kernels = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    masks = [(torch.rand_like(weight) >= SPARSITY).float() for weight in kernels]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loss_of = nn.CrossEntropyLoss()
    print("ready", torch.__version__, torch.get_num_threads(), flush=True)
    for _ in sys.stdin:
        for inputs, labels in batches(x, y, bool(loader)):
            optimizer.zero_grad(set_to_none=True)
            loss_of(model(inputs), labels).backward()
            optimizer.step()
            with torch.no_grad():
                for weight, mask in zip(kernels, masks, strict=True):
                    weight.mul_(mask)
        print("epoch", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
