"""The reports as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.padding import Padding
from rich.table import Table

from usp_s3_wsgi.cli import console
from usp_s3_wsgi.cli.check.rejected_signature.comparison_view import ComparisonView
from usp_s3_wsgi.cli.check.result import BucketReport, Result, Verdict, worst

_STYLES = {Verdict.FINE: "green", Verdict.LOOK: "yellow", Verdict.WRONG: "bold red", Verdict.NOT_TESTED: "dim"}
_WAYS = {"gateway": "gateway", "proxy": "<Proxy>"}


def print_report(report: BucketReport) -> None:
    """Print the results of a bucket."""
    name = report.place if not report.is_fallback else f"{report.place}, fallback bucket"
    target = f" -> {report.url}" if report.url and report.url != report.place else ""
    output = console.output()
    output.print(console.name(f"{name}{target}", "bold"))
    output.print(console.name(f"  {_WAYS[report.way]}, {report.location}", "dim"))
    print_results(report.results)


def print_results(results: Sequence[Result]) -> None:
    """Print results, a row each; below it what to change."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for result in results:
        style = _STYLES[result.verdict]
        shown = result.verdict.upper() if result.verdict is Verdict.WRONG else str(result.verdict)
        table.add_row(console.text(f"  {result.check}"), console.text(shown, style), console.text(result.text))
        if result.action and result.verdict is not Verdict.FINE:
            table.add_row("", "", console.text(f"-> {result.action}", style))
        for line in result.details:
            table.add_row("", "", console.text(line, "dim"))
    console.print_table(table)
    for result in results:
        if result.comparison:
            console.print_table(Padding(ComparisonView(result.comparison), (0, 0, 0, 2)))


def print_summary(results: Sequence[Result], reports: Sequence[BucketReport]) -> None:
    """Print how many buckets are fine, and what counts most of the ``results`` about the configuration itself."""
    counts = Counter(report.verdict for report in reports)
    parts = [f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]]
    noun = "bucket" if len(reports) == 1 else "buckets"
    summary = f"{len(reports)} {noun}: {', '.join(parts)}" if reports else f"0 {noun}"
    configuration = f"configuration: {worst(one.verdict for one in results)}; " if results else ""
    console.output().print(console.text(f"{configuration}{summary}"))
