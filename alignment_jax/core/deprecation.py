"""Old names of functions, classes and keyword arguments, kept for one minor version with a DeprecationWarning."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Class = TypeVar("Class", bound=type)


def renamed_keywords(**new_names: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Accepts old keyword arguments of a function.

    >>> @renamed_keywords(colour="color")
    ... def paint(color):
    ...     return color
    >>> with warnings.catch_warnings(action="ignore"):
    ...     paint(colour="red")
    'red'
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @functools.wraps(function)
        def renamed(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            for old, new in new_names.items():
                if old in kwargs and new not in kwargs:
                    message = f"{function.__name__}({old}=...) is now {function.__name__}({new}=...)"
                    warnings.warn(message, DeprecationWarning, stacklevel=2)
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return renamed

    return decorate


def renamed_names(module: str, new_names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` for old names: `__getattr__ = renamed_names(__name__, {"Old": "New"})`."""

    def find(name: str) -> Any:
        if name not in new_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now {module}.{new_names[name]}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], new_names[name])

    return find


def renamed_attributes(renamed: Mapping[str, str]) -> Callable[[Class], Class]:
    """A class decorator: the constructor takes old keyword arguments, and instances have old attributes and methods.

    Args:
      renamed: old name -> new name.

    >>> @renamed_attributes({"size": "width"})
    ... class Box:
    ...     def __init__(self, *, width):
    ...         self.width = width
    >>> with warnings.catch_warnings(action="ignore"):
    ...     Box(size=3).size
    3
    """

    def decorate(cls: Class) -> Class:
        init: Any = cls.__init__  # type: ignore[misc]

        @functools.wraps(init)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            for old in renamed.keys() & kwargs.keys():
                warnings.warn(f"{cls.__name__}: {old} is now {renamed[old]}", DeprecationWarning, stacklevel=2)
                kwargs[renamed[old]] = kwargs.pop(old)
            init(self, *args, **kwargs)

        def __getattr__(self: Any, name: str) -> Any:
            if name not in renamed:
                raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}")
            warnings.warn(f"{cls.__name__}.{name} is now {renamed[name]}", DeprecationWarning, stacklevel=2)
            return getattr(self, renamed[name])

        cls.__init__ = __init__  # type: ignore[misc]
        cls.__getattr__ = __getattr__  # type: ignore[attr-defined]
        return cls

    return decorate
