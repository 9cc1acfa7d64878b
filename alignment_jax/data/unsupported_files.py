"""Refuses unsupported array files; the message has the Python code that converts them. Pickles are never loaded."""

from __future__ import annotations

import pathlib
import zipfile

from alignment_jax.core.errors import DataError

_TAKE = "image=e['image'], text=e['text']"
_PICKLE = "import numpy as np, pickle; e = pickle.load(open({old!r}, 'rb'))"
_TORCH = "import numpy as np, torch; e = torch.load({old!r}, map_location='cpu', weights_only=True)"
_OF_TENSORS = "image=e['image'].float().numpy(), text=e['text'].float().numpy()"
# kind -> (description, code that opens it, code for np.savez)
_KINDS = {
    "pickle": ("a pickle, which can run code when it is loaded", _PICKLE, _TAKE),
    "torch": ("a PyTorch file, a pickle that can run code when it is loaded", _TORCH, _OF_TENSORS),
    "joblib": (
        "a pickle, which can run code when it is loaded",
        "import numpy as np, joblib; e = joblib.load({old!r})",
        _TAKE,
    ),
    "hdf5": (
        "an HDF5 file, which is not supported",
        "import numpy as np, h5py; e = h5py.File({old!r})",
        "image=e['image'][:], text=e['text'][:]",
    ),
    "mat": (
        "a MATLAB file, which is not supported",
        "import numpy as np, scipy.io; e = scipy.io.loadmat({old!r})",
        _TAKE,
    ),
}
_SUFFIXES = {
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".pt": "torch",
    ".pth": "torch",
    ".bin": "torch",
    ".ckpt": "torch",
    ".joblib": "joblib",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".mat": "mat",
}


def refuse_unsupported(path: pathlib.Path) -> None:
    """Refuses an unsupported file, by content and extension.

    Raises:
      DataError: the message names the format and how to convert the file.
    """
    kind = _kind(path)
    if kind is not None:
        what, line, taken = _KINDS[kind]
        raise DataError(
            f"{path}: {what}; if you trust it, convert it with Python: `{line.format(old=str(path))}` "
            f"and `np.savez({str(path.with_suffix('.npz'))!r}, {taken})`"
        )


def pickled_objects_message(path: pathlib.Path, name: str) -> str:
    """The message about an array of Python objects, with the code that converts it."""
    plain = str(path.with_name(f"{path.stem}_plain{path.suffix}"))
    if path.suffix == ".npy":
        take, save = "np.array(e.tolist())", f"np.save({plain!r}, "
    else:
        take = "k: np.array(v.tolist()) if v.dtype == object else v for k, v in e.items()"
        take, save = f"**{{{take}}}", f"np.savez({plain!r}, "
    return (
        f"{path}: {name} holds pickled Python objects, which are not loaded; if you trust it, convert it with "
        f"Python: `import numpy as np; e = np.load({str(path)!r}, allow_pickle=True)` and `{save}{take})`"
    )


def _kind(path: pathlib.Path) -> str | None:
    try:
        with open(path, "rb") as file:
            start = file.read(8)
        inside = zipfile.ZipFile(path).namelist() if start.startswith(b"PK") and zipfile.is_zipfile(path) else []
    except (OSError, zipfile.BadZipFile, NotImplementedError):  # the reader reports it
        return None
    if any(name.endswith("/data.pkl") for name in inside):
        return "torch"
    if start.startswith(b"\x89HDF"):
        return "hdf5"
    if inside or start.startswith(b"\x93NUMPY"):
        return None  # arrays, whatever the extension
    by_name = _SUFFIXES.get(path.suffix.lower())
    # PROTO opcode and protocol number of a pickle.
    return by_name or ("pickle" if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5") else None)
