"""The errors that tf_prac raises; each message says what was wrong and what to do."""

from __future__ import annotations


class TfPracError(Exception):
    """Base class of the errors that this library raises.

    Attributes:
        ag_pass_through: makes TensorFlow's AutoGraph raise an error in the code of a `tf.function`
            as it is, not as a `StagingError` with its text.
    """

    ag_pass_through = True


class ArgumentError(TfPracError, ValueError):
    """An argument has a value that is not allowed.

    Example:

        >>> raise ArgumentError("prune_rate", 1.5, "a number in (0, 1)")
        Traceback (most recent call last):
        ...
        tf_prac.errors.ArgumentError: prune_rate: received 1.5; allowed: a number in (0, 1).

    Args:
        argument: name of the argument; command-line flags have the same names.
        received: the value that was passed.
        allowed: the values that are accepted, as a phrase.
        remedy: a sentence that says what to do. Default "".
    """

    def __init__(self, argument: str, received: object, allowed: str, remedy: str = ""):
        self.argument = argument
        self.received = received
        self.allowed = allowed
        self.remedy = remedy
        message = f"{argument}: received {received!r}; allowed: {allowed}."
        super().__init__(f"{message} {remedy}" if remedy else message)


class DataError(TfPracError, ValueError):
    """A data set lacks what training needs (ids, labels, a fixed order, enough samples)."""


class FileError(TfPracError, OSError):
    """A file or directory is missing, damaged, not tf_prac's, or cannot be written."""


class DamagedFileError(FileError):
    """A file is damaged, truncated or missing; the command that wrote it can restore it."""


class UnsafeFileError(FileError, ValueError):
    """A file names a class or function that loading does not build; see `tf_prac.load_model`."""


class MismatchError(TfPracError, ValueError):
    """Two objects do not belong together, such as a ticket and a model, or a run and options."""


class MissingPackageError(TfPracError, ImportError):
    """An optional package is not installed; the message has the command that installs it.

    Example:

        >>> raise MissingPackageError("tf_keras", "tf-keras", "models of Keras 2")
        Traceback (most recent call last):
        ...
        tf_prac.errors.MissingPackageError: tf_keras: not installed, but needed for models of
        Keras 2. Install it with: pip install 'tf-prac[tf-keras]'

    Args:
        package: the name it is imported by.
        extra: the extra of tf_prac that installs it.
        purpose: what needs it, a phrase.
    """

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{package}: not installed, but needed for {purpose}. "
            f"Install it with: pip install 'tf-prac[{extra}]'",
            name=package,
        )


class NonFiniteLossError(TfPracError, ArithmeticError):
    """The training loss became NaN or infinite; the round was not saved."""


class WorkerLostError(TfPracError, ConnectionError):
    """Another worker of a multi-machine training was lost; the same command resumes the search."""
