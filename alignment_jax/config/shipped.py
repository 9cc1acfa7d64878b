"""Finds the configuration files that come with the package, in a checkout or an installation."""

from __future__ import annotations

import pathlib
import sysconfig

FOLDER = "configs"
_SHARE = pathlib.PurePath("share", "alignment_jax", FOLDER)  # see data_files in setup.cfg


def shipped() -> dict[str, pathlib.Path]:
    """Name -> path of the configuration files that come with the package.

    >>> "quickstart.py" in shipped()
    True
    """
    checkout = pathlib.Path(__file__).resolve().parents[2] / FOLDER
    # `pip install --user` installs to another folder.
    places = {sysconfig.get_path("data"), sysconfig.get_path("data", sysconfig.get_preferred_scheme("user"))}
    for folder in (checkout, *(pathlib.Path(place) / _SHARE for place in sorted(places))):
        found = {path.name: path for path in sorted(folder.glob("*.py"))}
        if "quickstart.py" in found:
            return found
    return {}


def find_config(path: str) -> str | None:
    """The configuration file for a path on the command line: that file, or the shipped one of this name.

    Args:
      path: of a file, or `configs/NAME.py` or `NAME.py` of a shipped one, from any folder.

    Returns:
      The path; None if there is no such file.

    >>> find_config("configs/quickstart.py") is not None, find_config("configs/nothing.py")
    (True, None)
    """
    given = pathlib.Path(path)
    if given.is_file():
        return path
    if given.parent in (pathlib.Path(FOLDER), pathlib.Path()):
        found = shipped().get(given.name)
        return None if found is None else str(found)
    return None
