"""MobileNetV2 on your own images: a ticket of whole channels, shrunk, as a fast TFLite model.

python examples/mobilenet_lite.py --images=DIR    # DIR/train/CLASS/FILE and DIR/test/CLASS/FILE
python examples/mobilenet_lite.py                 # on handwritten digits
"""

import pathlib
import statistics
import time

import numpy as np
import tensorflow as tf
from absl import app, flags, logging

import tf_prac
from tf_prac import PruningConfig, TicketSearch, TrainingRecipe
from tf_prac.errors import TfPracError
from tf_prac.keras_api import Flavor

_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_IMAGES = flags.DEFINE_string("images", None, "Directory of class folders. Default: digits.")
_SIZE = flags.DEFINE_integer("size", 32, "Height and width of the images.")
_ALPHA = flags.DEFINE_float("alpha", 0.35, "Width of the network.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs of the dense network.")
_SPARSITY = flags.DEFINE_float("sparsity", 0.5, "Fraction of the channels that is pruned.")
_REPEATS = flags.DEFINE_integer("repeats", 50, "Measured turns.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/mobilenet", "Directory of run and exports.")


def images(samples):
    """Returns images as float32 in [-1, 1], of the configured size, in color; and their labels."""
    raw = np.asarray(samples.inputs(range(len(samples))), np.float32)
    resized = tf.image.resize(raw / 127.5 - 1, (_SIZE.value, _SIZE.value)).numpy()
    return np.broadcast_to(resized, (*resized.shape[:3], 3)).copy(), np.asarray(samples.labels)


def runner(directory, batch):
    """Returns a function that runs the TFLite model of an export on a batch."""
    interpreter = tf.lite.Interpreter(str(directory / "model.tflite"), num_threads=1)
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(entry["index"], batch.shape)
    interpreter.allocate_tensors()

    def run():
        interpreter.set_tensor(entry["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return run


def main(_) -> None:
    """Searches, shrinks, folds, converts, and measures accuracy and latency."""
    logging.set_verbosity(logging.WARNING)
    output = pathlib.Path(_OUTPUT_DIR.value)
    if _IMAGES.value:
        size = (_SIZE.value, _SIZE.value)
        data = tf_prac.load_dataset("folder", data_dir=_IMAGES.value, image_size=size)
    else:
        data = tf_prac.load_dataset("digits")
    train, test = images(data.train), images(data.test)

    def make_model():
        model = Flavor(_KERAS.value).module.applications.MobileNetV2(
            input_shape=(_SIZE.value, _SIZE.value, 3),
            alpha=_ALPHA.value,
            weights=None,
            classes=data.train.num_classes,
            classifier_activation=None,
        )
        for layer in model.layers:
            if hasattr(layer, "momentum"):  # 0.999, for far more steps than here
                layer.momentum = 0.9
        return model

    recipe = {"learning_rate": 0.05, "schedule": "cosine", "warmup": 0.1}
    how = {"pattern": "channels", "scope": "layerwise", "retraining": "lr_rewinding"}
    search = TicketSearch(
        make_model,
        TrainingRecipe(epochs=_EPOCHS.value, batch_size=64, **recipe),
        PruningConfig(rounds=1, prune_rate=_SPARSITY.value, rewind="5%", **how),
        directory=output / "run",
        verbose=False,
    )
    result = search.run(train, test=test)
    print(result)
    masks = result.tickets[-1].masks
    shrunk = tf_prac.export.shrink(result.model, masks=masks)
    print(shrunk.report)
    folded = tf_prac.export.fold_batch_norm(shrunk.model)

    models = {"ticket": result.model, "shrunk": folded.model}
    for name, model in models.items():
        path = output / name
        tf_prac.export.tflite(model, path, sparse=False, samples=test[0][:8], overwrite=True)
    for name in models:
        correct = runner(output / name, test[0])().argmax(-1) == test[1]
        print(f"accuracy in TFLite, {name:<6}  {correct.mean():.2%}")
    runs = {name: runner(output / name, test[0][:1]) for name in models}
    seconds = {name: [] for name in models}
    for _ in range(_REPEATS.value):  # in turns, so that other load affects both
        for name, run in runs.items():
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    before, after = (statistics.median(times) for times in seconds.values())
    ratio = statistics.median(b / a for b, a in zip(*seconds.values(), strict=True))
    print(f"one image  {1e3 * before:.3f} ms, shrunk {1e3 * after:.3f} ms: {ratio:.2f} x")


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
