"""Fetching models from the Hugging Face hub."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from embcli.errors import ModelError

# Copies of the same weights for other programs.
_OTHERS = (
    "onnx/*", "openvino/*", "coreml/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.gguf", "*.tflite",
    "*.mlmodel", "*.png", "*.jpg",
)  # fmt: skip


def fetch(ids: Sequence[str], revision: str | None, note: Callable[[str], None]) -> Path:
    """Fetch the first of these models that exists into the hub's cache.

    Parameters
    ----------
    ids : sequence of str
    revision : str, optional
    note : callable
        Told what is being fetched.

    Returns
    -------
    directory : Path

    Raises
    ------
    ModelError
        There is no such model, one may not read it, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f" --revision {revision}" if revision else ""
    for id in ids:
        try:
            found = HfApi().model_info(id, revision=revision)
            names = [sibling.rfilename for sibling in found.siblings or ()]
            safe = {PurePosixPath(n).parent for n in names if n.endswith(".safetensors")}
            pickled = [
                n for n in names if n.endswith((".bin", ".pt")) and PurePosixPath(n).parent in safe
            ]
            note(f"fetching {id} from the hub")
            return Path(
                snapshot_download(id, revision=found.sha, ignore_patterns=[*_OTHERS, *pickled])
            )
        except GatedRepoError as error:
            raise ModelError(
                f"model {id!r} asks for your consent first",
                hint=f"hf auth login, accept its terms on its page, then: hf download {id}{at}",
            ) from error
        except RevisionNotFoundError as error:
            raise ModelError(f"model {id!r} has no revision {revision!r}") from error
        except RepositoryNotFoundError:
            continue
        except Exception as error:
            # The client lets through what its HTTP library raises, and that library changes.
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ModelError(
                f"model {id!r} is not on this machine, and the hub cannot be reached ({reason})",
                hint=f"on a machine with a network: hf download {id}{at}",
            ) from error
    tried = " nor ".join(repr(id) for id in ids)
    raise ModelError(f"there is no model {tried} here or on the hub", hint="embcli models")
