"""Pictures: a record per file, its header read, the picture itself decoded when it is encoded."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embcli.errors import InputError, ModelError
from embcli.formats import Problem
from embcli.store.records import Record

if TYPE_CHECKING:
    from PIL.Image import Image

# What files with a picture's name may be, whatever the name says; not all that Pillow knows,
# which goes as far as running Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_ORIENTATION = 0x0112


def read(path: Path, name: str) -> Record | Problem:
    """Read a picture's header.

    Parameters
    ----------
    path : Path
    name : str
        The file's name in the store. It is also the text of the record, so that a search for
        words finds it.

    Raises
    ------
    ModelError
        Pillow is not installed.
    """
    try:
        with _opened(path) as image:
            width, height = image.size
            if _orientation(image) >= 5:  # on its side
                width, height = height, width
            meta = {
                "path": name,
                "width": width,
                "height": height,
                "bytes": os.path.getsize(path),
                "format": image.format,
            }
            record = Record(name, name, meta, f"{name}:1", path)
            _ = record.hash  # reads the file: what goes wrong then is to be this record's problem
    except InputError as error:
        return Problem(name, 0, error.message)
    return record


def load_image(path: str | os.PathLike[str]) -> "Image":
    """Decode a picture: upright, in RGB, on white where it is transparent.

    Of an animation this is the first frame. May be called from several threads.

    Raises
    ------
    InputError
        The file cannot be read, is damaged, or would decode to more pixels than Pillow allows.
    ModelError
        Pillow is not installed.
    """
    try:
        with _opened(path) as image:
            image.load()
            return _rgb(_upright(image))
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error.message}") from error


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator["Image"]:
    """Open a picture, and say in an InputError what goes wrong with it while it is open."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ModelError(
            "reading pictures takes Pillow, which is not installed",
            hint="pip install 'embcli[images]'",
        ) from error
    try:
        with _SILENCE, Image.open(path, formats=_FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        reason = f"this is no picture that can be read ({', '.join(_FORMATS)})"
        raise InputError(reason if os.path.getsize(path) else "the file is empty") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"the picture is too large ({error})") from error
    except Exception as error:
        # Damage makes decoders fail with whatever they stumble over.
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"cannot be opened ({error.strerror})") from error
        raise InputError(
            f"the picture is damaged ({str(error) or type(error).__name__})"
        ) from error


def _orientation(image: "Image") -> int:
    """How the picture is to be turned, 1 to 8 as in EXIF; 1 where that is missing or damaged."""
    from PIL import Image

    try:
        # That of PNG files decodes the picture to look for EXIF behind it.
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 (whatever is wrong with the metadata)
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(image: "Image") -> "Image":
    # ImageOps.exif_transpose also writes the EXIF data anew, which fails where it is damaged.
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _rgb(image: "Image") -> "Image":
    from PIL import Image

    if image.mode.startswith("I"):
        image = _with_8_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("RGB")
    image.info.clear()  # or somebody turns by the EXIF data in it what is upright now
    return image


def _with_8_bits(image: "Image") -> "Image":
    """Scale 16 bits to 8, where Pillow cuts at 255."""
    import numpy as np
    from PIL import Image

    values: Any = np.asarray(image).clip(0, 65535)
    return Image.fromarray((values // 257).astype(np.uint8))


class _Silence:
    """No warnings while any thread is inside.

    Threads that each use `warnings.catch_warnings` may leave one another's filters behind.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._filters.enter_context(warnings.catch_warnings(action="ignore"))

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.close()


_SILENCE = _Silence()
