"""A hand-written JAX loop of ResNet-20, which `gpu.py` runs in an environment with JAX.

    python jax_loop.py SAMPLES STEPS [bfloat16]

The samples (synthetic images of 32 x 32 pixels, 10 classes) are on the device. One compiled
function takes STEPS steps of 128 samples: a permutation for each epoch, crop and flip,
normalization, forward and backward pass with batch normalization, SGD with momentum and weight
decay, masks and forgetting statistics, as in a search. For each line on standard input, the script
calls it once and prints a line. Convolutions and products have JAX's default precision
(TensorFloat-32 on GPUs that have it), or with "bfloat16" inputs in bfloat16.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np

BATCH_SIZE, CLASSES, PADDING, SPARSITY = 128, 10, 4, 0.8
STAGES = ((16, 1), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1))


def initial(key):
    """Returns parameters, masks and moving statistics."""
    widths, kernels = 3, []
    for width, size in [(16, 3), *((w, 3) for w, _ in STAGES for _ in range(2))]:
        kernels.append((size, size, widths, width))
        widths = width
    keys = iter(jax.random.split(key, 2 * len(kernels) + 1))
    params = {
        "kernels": [
            jax.random.normal(next(keys), s) * np.sqrt(2 / np.prod(s[:-1])) for s in kernels
        ],
        "gammas": [jnp.ones(s[-1]) for s in kernels],
        "betas": [jnp.zeros(s[-1]) for s in kernels],
        "dense": jax.random.normal(next(keys), (64, CLASSES)) * np.sqrt(2 / 64),
        "bias": jnp.zeros(CLASSES),
    }
    masks = [(jax.random.uniform(next(keys), s) >= SPARSITY).astype(jnp.float32) for s in kernels]
    moving = [(jnp.zeros(s[-1]), jnp.ones(s[-1])) for s in kernels]
    return params, masks, moving


def augmented(images, key):
    """Returns normalized crops of padded images, half of them flipped."""
    size, height, width, _ = images.shape
    corner, flip = jax.random.split(key)
    shift = jax.random.randint(corner, (size, 2), 0, 2 * PADDING + 1)
    columns = jnp.arange(width)
    flipped = jax.random.bernoulli(flip, shape=(size, 1))
    columns = shift[:, 1:] + jnp.where(flipped, width - 1 - columns, columns)
    rows = shift[:, :1] + jnp.arange(height)
    padded = jnp.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    crops = padded[jnp.arange(size)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return (crops.astype(jnp.float32) / 255 - 0.5) / 0.25


def forward(params, moving, x, dtype):
    """Returns logits and updated moving statistics."""
    layers = iter(zip(params["kernels"], params["gammas"], params["betas"], moving, strict=True))
    updated = []

    def conv_bn(x, stride):
        kernel, gamma, beta, (mean, variance) = next(layers)
        x = jax.lax.conv_general_dilated(
            x,
            kernel.astype(dtype),
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ).astype(jnp.float32)
        batch_mean, batch_variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        updated.append((0.9 * mean + 0.1 * batch_mean, 0.9 * variance + 0.1 * batch_variance))
        x = (x - batch_mean) * jax.lax.rsqrt(batch_variance + 1e-5) * gamma + beta
        return x.astype(dtype)

    x = jax.nn.relu(conv_bn(x.astype(dtype), 1))
    for width, stride in STAGES:
        shortcut = x[:, ::stride, ::stride]
        missing = width - x.shape[-1]
        shortcut = jnp.pad(shortcut, ((0, 0),) * 3 + ((missing // 2, missing - missing // 2),))
        x = jax.nn.relu(conv_bn(jax.nn.relu(conv_bn(x, stride)), 1) + shortcut)
    pooled = x.mean((1, 2)).astype(jnp.float32)
    return pooled @ params["dense"] + params["bias"], updated


def make_call(images, labels, steps, dtype):
    """Returns a compiled function from a state to the state after `steps` steps."""
    count = len(images)
    per_epoch = count // BATCH_SIZE

    def loss_of(params, moving, x, y):
        logits, moving = forward(params, moving, x, dtype)
        loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()
        return loss, (moving, logits.argmax(-1) == y)

    def step(state, _):
        params, velocity, masks, moving, table, order, number = state
        at = number % per_epoch
        order = jax.lax.cond(
            at == 0,
            lambda: jax.random.permutation(jax.random.fold_in(jax.random.key(1), number), count),
            lambda: order,
        )
        ids = jax.lax.dynamic_slice(order, (at * BATCH_SIZE,), (BATCH_SIZE,))
        x = augmented(images[ids], jax.random.fold_in(jax.random.key(2), number))
        gradients, (moving, correct) = jax.grad(loss_of, has_aux=True)(
            params, moving, x, labels[ids]
        )
        velocity = jax.tree.map(
            lambda v, g, w: 0.9 * v - 0.01 * (g + 1e-4 * w), velocity, gradients, params
        )
        params = jax.tree.map(jnp.add, params, velocity)
        kernels = [w * mask for w, mask in zip(params["kernels"], masks, strict=True)]
        params = {**params, "kernels": kernels}
        seen, last, learned, events = table[ids].T
        correct = correct.astype(jnp.int32)
        rows = [seen + 1, correct, learned | correct, events + last * (1 - correct)]
        table = table.at[ids].set(jnp.stack(rows, 1))
        return (params, velocity, masks, moving, table, order, number + 1), None

    @functools.partial(jax.jit, donate_argnums=0)
    def call(state):
        return jax.lax.scan(step, state, None, length=steps)[0]

    return call


def main(samples: str, steps: str, dtype: str = "float32") -> None:
    """Takes the steps of one turn for each line on standard input."""
    generator = np.random.default_rng(0)
    count = int(samples)
    images = jnp.asarray(generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))
    labels = jnp.asarray(generator.integers(0, CLASSES, count))
    params, masks, moving = initial(jax.random.key(0))
    velocity = jax.tree.map(jnp.zeros_like, params)
    table = jnp.zeros((count, 4), jnp.int32)
    state = (params, velocity, masks, moving, table, jnp.arange(count), 0)
    call = make_call(images, labels, int(steps), jnp.dtype(dtype))
    state = jax.block_until_ready(call(state))  # compiles
    print("ready", jax.__version__, jax.devices()[0].device_kind, flush=True)
    for _ in sys.stdin:
        state = jax.block_until_ready(call(state))
        print("turn", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
