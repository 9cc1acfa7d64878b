"""Files of arrays that are not read, each with the two lines of Python that convert it. No pickle is ever loaded."""

from __future__ import annotations

import pathlib
import zipfile

from alignment_jax.core.errors import DataError

_TAKE = "image=e['image'], text=e['text']"
_PICKLE = "import numpy as np, pickle; e = pickle.load(open({old!r}, 'rb'))"
_TORCH = "import numpy as np, torch; e = torch.load({old!r}, map_location='cpu', weights_only=True)"
_OF_TENSORS = "image=e['image'].float().numpy(), text=e['text'].float().numpy()"
# kind -> (what it is, the line that opens it, what is taken of it)
_KINDS = {
    "pickle": ("a pickle, whose code would run when it is loaded", _PICKLE, _TAKE),
    "torch": ("a PyTorch file, which is a pickle whose code would run when it is loaded", _TORCH, _OF_TENSORS),
    "joblib": (
        "a pickle, whose code would run when it is loaded",
        "import numpy as np, joblib; e = joblib.load({old!r})",
        _TAKE,
    ),
    "hdf5": (
        "an HDF5 file, which is not read",
        "import numpy as np, h5py; e = h5py.File({old!r})",
        "image=e['image'][:], text=e['text'][:]",
    ),
    "mat": (
        "a MATLAB file, which is not read",
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
    """Refuses a file of a kind that is not read, whatever its ending.

    Raises:
      DataError: the line says what the file is and how to convert it.
    """
    kind = _kind(path)
    if kind is not None:
        what, line, taken = _KINDS[kind]
        raise DataError(
            f"{path}: {what}; where you trust it, convert it with two lines of Python: `{line.format(old=str(path))}` "
            f"and `np.savez({str(path.with_suffix('.npz'))!r}, {taken})`"
        )


def pickled_objects_message(path: pathlib.Path, name: str) -> str:
    """The end of a message about an array of Python objects: how to save it plainly."""
    plain = str(path.with_name(f"{path.stem}_plain{path.suffix}"))
    if path.suffix == ".npy":
        take, save = "np.array(e.tolist())", f"np.save({plain!r}, "
    else:
        take = "k: np.array(v.tolist()) if v.dtype == object else v for k, v in e.items()"
        take, save = f"**{{{take}}}", f"np.savez({plain!r}, "
    return (
        f"{path}: {name} holds pickled Python objects, which are never read; where you trust it, convert it with two "
        f"lines of Python: `import numpy as np; e = np.load({str(path)!r}, allow_pickle=True)` and `{save}{take})`"
    )


def _kind(path: pathlib.Path) -> str | None:
    try:
        with open(path, "rb") as file:
            start = file.read(8)
        inside = zipfile.ZipFile(path).namelist() if start.startswith(b"PK") and zipfile.is_zipfile(path) else []
    except (OSError, zipfile.BadZipFile, NotImplementedError):  # whoever reads the file names the problem
        return None
    if any(name.endswith("/data.pkl") for name in inside):
        return "torch"
    if start.startswith(b"\x89HDF"):
        return "hdf5"
    if inside or start.startswith(b"\x93NUMPY"):
        return None  # arrays, whatever they are called
    by_name = _SUFFIXES.get(path.suffix.lower())
    # The mark of a pickle and its protocol.
    return by_name or ("pickle" if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5") else None)
