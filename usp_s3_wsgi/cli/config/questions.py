"""Asks on a terminal for what no option has answered. Questions and reasons go to standard error."""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import TypeVar

import click

#: The columns of a terminal that are used.
_WIDTH = 79
_Answer = TypeVar("_Answer", bound=str)


def is_terminal() -> bool:
    """Whether somebody can read the questions and answer them."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def is_output_shown() -> bool:
    """Whether standard output is a terminal, and not a file or a pipe."""
    return sys.stdout is not None and sys.stdout.isatty()


def prompt(question: str, check: Callable[[str], _Answer], *, default: str | None = None) -> _Answer:
    """Ask until the answer is allowed. Raises: click.Abort."""

    def checked(text: str) -> _Answer:
        try:
            return check(text)
        except ValueError as error:
            raise click.UsageError(str(error)) from None  # click prints it, and asks again

    with redirect_stdout(sys.stderr):  # older versions of click write a space to standard output
        answer: _Answer = click.prompt(
            question, default=default, show_default=bool(default), value_proc=checked, err=True
        )
    return answer


def prompt_hidden(question: str) -> str:
    """Ask without showing what is typed. Raises: click.Abort."""
    with redirect_stdout(sys.stderr):
        return str(click.prompt(question, hide_input=True, err=True))


def confirm(question: str) -> bool:
    """Ask for yes or no; Enter is no. Raises: click.Abort."""
    with redirect_stdout(sys.stderr):
        return click.confirm(question, default=False, err=True)


def wrapped(text: str, indent: int = 0) -> str:
    """Return a line as lines of a terminal; ``indent``: where it begins."""
    lines = textwrap.wrap(
        text, _WIDTH - indent, drop_whitespace=True, break_long_words=False, break_on_hyphens=False
    )  # fmt: skip
    return f"\n{' ' * indent}".join(lines)


def folded(command: str, indent: int) -> str:
    """Return a command line as lines of a terminal that can be pasted; ``indent``: where it begins."""
    words = re.findall(r"""(?:'[^']*'|"[^"]*"|[^\s'"])+""", command)
    if " ".join(words) != command:
        return command
    parts: list[str] = []
    for word in words:
        if parts and re.fullmatch("--?[a-z-]+", parts[-1]) and not word.startswith("-"):
            parts[-1] += f" {word}"  # an option and its value
        else:
            parts.append(word)
    lines = parts[:1]
    for word in parts[1:]:
        if len(lines[-1]) + len(word) + 3 > _WIDTH - indent:
            lines[-1] += " \\"
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}"
    return f"\n{' ' * indent}".join(lines)


def optional(check: Callable[[str], str]) -> Callable[[str], str]:
    """Return a check that also accepts no answer."""
    return lambda text: check(text) if text.strip() else ""


@dataclass
class Questions:
    """The options of the command line, by name, and the answers so far. ``asks``: questions may be asked."""

    given: dict[str, str | None]
    asks: bool
    answered: dict[str, str] = field(default_factory=dict)

    def answer(
        self,
        option: str,
        question: str,
        check: Callable[[str], _Answer],
        *,
        default: str | None = None,
        explanation: str = "",
        is_asked: bool = True,
    ) -> _Answer:
        """Return the checked answer: that of the option, else of the question, else the default.

        ``is_asked``: False for what only an option can answer.

        Raises:
            click.BadParameter: the option's value is not allowed.
            click.UsageError: there is no answer.
        """
        text = self.given.get(option)
        if text is None and self.asks and is_asked:
            answer = _ask(question, check, default, explanation)
        elif text is None and default is None:
            raise click.UsageError(
                f"{option} is missing ({question}). Questions are only asked on a terminal, without --no-input."
            )
        else:
            try:
                answer = check(default or "" if text is None else text)
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint=option) from None
        self.answered[option] = answer
        return answer

    def command(self, way: str) -> str:
        """Return the command line with the answers so far. It has no secret, and no control characters."""
        words = ["usp-s3", "config", way]
        for option, answer in self.answered.items():
            words += [option, answer] if answer else []
        return shlex.join(words)


def _ask(question: str, check: Callable[[str], _Answer], default: str | None, explanation: str) -> _Answer:
    lines = [wrapped(line) for line in explanation.split("\n")]
    click.echo("\n".join(["", *lines]) if explanation else "", err=True)
    return prompt(question, check, default=default)
