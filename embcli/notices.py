"""What has to be said from where nobody listens."""

from collections.abc import Callable


def _nobody(message: str) -> None:
    pass


_listener: Callable[[str], None] = _nobody


def tell(message: str) -> None:
    """Say that a command waits, to whoever listens; a library tells nobody."""
    _listener(message)


def listen(listener: Callable[[str], None]) -> None:
    """Have all notices told to this from now on."""
    global _listener  # noqa: PLW0603
    _listener = listener
