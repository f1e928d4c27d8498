"""A plain PyTorch loop that holds masks, which `pytorch.py` runs in an environment with PyTorch.

    python pytorch_loop.py DATA.npz [loader]

Holds `x` float32 [n, features] and `y` int64 [n] as tensors and draws batches by index, which is
the fastest way PyTorch has, or with "loader" by a shuffling `DataLoader`, as is usual. After each
update, weights are multiplied with their masks. For each line it reads, it trains LeNet-300-100 for
an epoch, and writes a line.
"""

import sys

import numpy as np
import torch
from torch import nn

BATCH_SIZE, SPARSITY = 128, 0.8


def batches(x, y, loader: bool):
    """An epoch's batches, shuffled."""
    if loader:
        data = torch.utils.data.TensorDataset(x, y)
        return torch.utils.data.DataLoader(data, batch_size=BATCH_SIZE, shuffle=True)
    return ((x[ids], y[ids]) for ids in torch.randperm(len(x)).split(BATCH_SIZE))


def main(path: str, loader: str = "") -> None:
    """Trains an epoch for each line of standard input."""
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
