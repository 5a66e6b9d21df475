"""One spelling per option of the training commands: a field of a frozen dataclass, and nothing else.

A run describes itself as a dataclass whose fields are made by ``option`` or ``required``::

    @dataclass(frozen=True)
    class TrainOptions:
        '''Trains the model.'''

        corpus: Path = required("the folder of recordings", metavar="DIR")
        budget_minutes: float = option(60.0, "how long to train", unit="min", minimum=0)

    options = read(TrainOptions, Path("configs/default.toml"), ["--budget-minutes", "30"])

The field ``budget_minutes`` is then the key ``budget_minutes`` of the TOML file and the flag
``--budget-minutes``, which wins over the file; the field's default comes last. Keys are flat: a table in the
file is a mistake. A relative path is relative to the working directory, wherever the file lies.

A field is ``str``, ``int``, ``float``, ``bool`` (``--flag``, ``--no-flag``) or ``Path``, also ``| None``.
Whatever is wrong raises ``OptionError`` with one sentence that names the place and what would be right there.
``load`` gives the file's bare table to a command that must choose its dataclass by a key (``system``).
"""

from __future__ import annotations

import argparse
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, cast, get_args, get_type_hints

Options = TypeVar("Options")
Value = TypeVar("Value")

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path in quotes",
}


class OptionError(ValueError):
    """A mistake in a configuration file or on the command line, as one sentence for the user."""


@dataclass(frozen=True)
class _Option:
    """What a field knows beyond its name, type and default."""

    help: str
    unit: str
    metavar: str | None
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None


def option(
    default: Value,
    help: str,
    *,
    unit: str = "",
    metavar: str | None = None,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
) -> Value:
    """A dataclass field that is an option.

    Args:
        default: its value where neither the file nor the command line gives one.
        help: what it does, in one phrase; unit and default are added to it.
        unit: of its value: ``min``, ``s``, ``frames``.
        metavar: the word that stands for its value in ``--help``.
        choices: the only values allowed, where there are few.
        minimum: the least number allowed.
        maximum: the greatest.
    """
    meta = _Option(help, unit, metavar, tuple(choices), minimum, maximum)
    return field(default=default, metadata={"option": meta}, kw_only=True)


def required(help: str, *, metavar: str | None = None, choices: Sequence[str] = ()) -> Any:
    """A dataclass field that the file or the command line must give."""
    meta = _Option(help, "", metavar, tuple(choices), None, None)
    return field(metadata={"option": meta}, kw_only=True)


def load(path: Path) -> dict[str, Any]:
    """The file's table as TOML has it, unchecked but for its being flat.

    Raises:
        OptionError: the file cannot be read, is not TOML, or holds a table.
    """
    try:
        with path.open("rb") as stream:
            table = tomllib.load(stream)
    except OSError as error:
        raise OptionError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"The configuration {path} is not TOML: {error}.") from None
    for key, value in table.items():
        if isinstance(value, dict):
            raise OptionError(f"The table [{key}] of {path} cannot be: write its keys without a table.")
    return table


def read(
    options: type[Options], toml: Path | None, argv: Sequence[str] = (), prog: str = "python -m model.train"
) -> Options:
    """Builds a run's options from its file and its command line.

    Args:
        options: the dataclass that describes them; the first paragraph of its docstring opens ``--help``.
        toml: the configuration file; None where a command has none.
        argv: the words after the file.
        prog: the command as typed, for ``--help``.

    Raises:
        OptionError: an unknown key or flag, a value of the wrong type or out of range, a missing option.
        SystemExit: ``--help`` was asked for and printed.
    """
    known = {entry.name: entry.metadata["option"] for entry in fields(cast(Any, options))}
    defaults = {entry.name: entry.default for entry in fields(cast(Any, options))}
    types = {name: _bare(kind) for name, kind in get_type_hints(options).items()}
    table = load(toml) if toml is not None else {}
    for key in table:
        if key not in known:
            raise OptionError(f"{toml} has an unknown key {key}{_near(key, known)}")
    usual = {
        name: (table[name], "here") if name in table else (default, "default")
        for name, default in defaults.items()
    }
    parser = _parser(options, known, types, usual, f"{prog} {toml}" if toml else prog)
    given, unknown = parser.parse_known_args(argv)
    for word in unknown:
        flags = [_flag(name) for name in known]
        raise OptionError(f"There is no option {word}{_near(word.split('=')[0], flags)}")

    values: dict[str, Any] = {}
    for name, meta in known.items():
        if name in given:
            values[name] = _convert(getattr(given, name), types[name], meta, f"The option {_flag(name)}")
        elif name in table:
            values[name] = _convert(table[name], types[name], meta, f"The key {name} of {toml}")
        elif defaults[name] is MISSING:
            where = f"Give {_flag(name)}" + (f", or the key {name} in {toml}" if toml else "")
            raise OptionError(f"{where}: {meta.help}.")
    return options(**values)


def as_table(options: Any) -> dict[str, str | int | float | bool | None]:
    """The options as plain values, paths as texts, to be written beside a run's results."""
    values = {entry.name: getattr(options, entry.name) for entry in fields(options)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _near(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """The end of a sentence about an unknown word: the known one nearest to it, if any is near."""
    match = get_close_matches(word, list(known), n=1)
    return f": did you mean {match[0]}?" if match else "."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message[:1].upper()}{message[1:]}: see `{self.prog} --help`.")


def _parser(
    options: type[Any],
    known: Mapping[str, _Option],
    types: Mapping[str, type],
    usual: Mapping[str, tuple[Any, str]],
    prog: str,
) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=prog,
        description=(options.__doc__ or "").split("\n\n")[0],
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for name, meta in known.items():
        help = f"{meta.help}{_usual(*usual[name], meta.unit)}".replace("%", "%%")
        if types[name] is bool:
            parser.add_argument(_flag(name), dest=name, action=argparse.BooleanOptionalAction, help=help)
        else:
            metavar = meta.metavar or ("|".join(meta.choices) or name.rsplit("_")[-1].upper())
            parser.add_argument(_flag(name), dest=name, metavar=metavar, help=help)
    return parser


def _usual(value: Any, source: str, unit: str) -> str:
    """What ``--help`` says of an option's unit and its value where no flag is given."""
    unit = f" {unit}" if unit else ""
    if value is MISSING:
        return f" (must be given{',' + unit if unit else ''})"
    if value is None or value == "":
        return f" ({unit[1:]})" if unit else ""
    return f" ({source} {str(value).lower() if isinstance(value, bool) else value}{unit})"


def _bare(annotation: Any) -> type:
    """``X`` of ``X`` or ``X | None``."""
    if isinstance(annotation, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not NoneType)
    return cast(type, annotation)


def _convert(raw: Any, kind: type, meta: _Option, source: str) -> Any:
    value = _value(raw, kind)
    if value is None:
        wanted = _KINDS[kind]
    elif meta.choices and value not in meta.choices:
        wanted = "one of " + ", ".join(meta.choices)
    elif meta.minimum is not None and value < meta.minimum:
        wanted = f"at least {meta.minimum:g}"
    elif meta.maximum is not None and value > meta.maximum:
        wanted = f"at most {meta.maximum:g}"
    else:
        return value
    raise OptionError(f"{source} must be {wanted}{' in ' + meta.unit if meta.unit else ''}, not {raw!r}.")


def _value(raw: Any, kind: type) -> Any:
    """The value, or None where ``raw`` (a flag's text, or a TOML value) is not of the kind."""
    if kind is bool:
        word = str(raw).lower()
        return True if word in _TRUE else False if word in _FALSE else None
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        return None
    if kind in (str, Path):
        return kind(raw) if isinstance(raw, str) else None
    if kind is int and isinstance(raw, float):
        return None
    try:
        number = kind(raw)
    except ValueError:
        return None
    return number if kind is int or math.isfinite(number) else None
