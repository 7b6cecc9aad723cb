"""The progress bar on standard error, if that is a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usp_s3_wsgi.cli import console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Hidden:
    """Shows nothing."""

    def begin(self, name: str, done: int, total: int | None) -> None:
        """Do nothing."""

    def advance(self, length: int) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class Bar:
    """A bar with bytes, speed and the time that is left. It disappears at the end: the summary has the numbers."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def begin(self, name: str, done: int, total: int | None) -> None:
        """Begin to show a download."""
        from rich import progress

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn(),
            progress.TransferSpeedColumn(), progress.TimeRemainingColumn(),
            console=console.messages(), transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task(name, total=total, completed=done)
        self._progress.start()

    def advance(self, length: int) -> None:
        """Show further bytes."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, length)

    def end(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()


def make(is_quiet: bool) -> Hidden | Bar:
    """Return what shows the progress here."""
    terminal = console.messages()
    return Bar() if terminal.is_terminal and not terminal.is_dumb_terminal and not is_quiet else Hidden()
