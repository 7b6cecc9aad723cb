"""The chart: a panel for each row, a bar for each column, http and https to the bucket side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.bucket import SCHEMES
from tests.bench.columns import BUFFERED, DIRECT, GATEWAY, NGINX, SIGNER, TRAFFIC_SERVER, UNSIGNED
from tests.bench.report import speed
from tests.bench.results import Record, Results

#: Proxies that sign are coloured, those that do not are grey.
_COLOURS = {
    GATEWAY: "#1b6ca8",
    SIGNER: "#3a9bd9",
    TRAFFIC_SERVER: "#d9822b",
    UNSIGNED: "#8a8f94",
    BUFFERED: "#aab0b5",
    NGINX: "#c9ced2",
}
#: Rows with 64 connections are only in the tables; they differ little from those with 16.
_OMITTED = " x 64"
_TITLES = {"http": "http to the bucket", "https": "https to the bucket, verified"}
#: Inches; at 100 dpi the chart is as wide as GitHub shows a README.
_WIDTH, _BAR, _GAP = 9.0, 0.17, 0.42
_ROOM = 1.3


def plot(results: Results, path: Path) -> None:
    """Draw the throughput, which must not be empty."""
    # Imported here, because only the chart needs matplotlib, which "make bench" installs.
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("agg")
    schemes = [scheme for scheme in SCHEMES if results.rows(scheme)]
    rows = [row for row in results.rows(schemes[0]) if not row.endswith(_OMITTED)] or results.rows(schemes[0])
    columns = [column for column in _COLOURS if column in results.columns()]
    panel = len(columns) * _BAR + _GAP
    pyplot.rcParams.update({"font.family": "DejaVu Sans", "font.size": 8, "svg.hashsalt": "bench"})
    figure, grid = pyplot.subplots(
        len(rows), len(schemes), squeeze=False, figsize=(_WIDTH, len(rows) * panel + 1.3), layout="constrained"
    )
    for axes, scheme in zip(grid[0], schemes, strict=True):
        axes.annotate(
            _TITLES[scheme], (0, 1), (0, 22), xycoords="axes fraction", textcoords="offset points",
            fontsize=10, fontweight="bold",
        )  # fmt: skip
    for line, row in zip(grid, rows, strict=True):
        for axes, scheme in zip(line, schemes, strict=True):
            cells = [results.cell(scheme, row, column) for column in columns]
            _panel(axes, row, [cell for cell in cells if cell], results.cell(scheme, row, DIRECT))
        line[0].set_yticks(range(len(columns)), columns)
    versions = results.about["versions"]
    figure.suptitle(
        f"Private objects through each proxy: requests or bytes per second\n"
        f"usp_s3_wsgi {versions['usp_s3_wsgi']}, httpd {versions['httpd']}, Traffic Server "
        f"{versions['Traffic Server']}, nginx {versions['nginx']}; {results.about['machine']['cores']} cores "
        f"shared by proxy, bucket and client",
        fontsize=9,
    )
    figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _panel(axes: Any, row: str, cells: list[Record], direct: Record | None) -> None:
    speeds = [cell["median"]["bytes_per_second" if cell["is_large"] else "requests_per_second"] for cell in cells]
    bars = axes.barh(range(len(cells)), speeds, height=0.8, color=[_COLOURS[cell["column"]] for cell in cells])
    label_box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axes.bar_label(bars, [speed(cell) for cell in cells], padding=3, fontsize=7.5, bbox=label_box)
    for cell, value in zip(cells, speeds, strict=True):
        if cell["column"] == TRAFFIC_SERVER:
            axes.axvline(value, color=_COLOURS[TRAFFIC_SERVER], linewidth=0.8, linestyle=":", zorder=0)
    axes.set_title(_name(row), loc="left", fontsize=8.5, pad=3)
    if direct:
        axes.set_title(f"without a proxy: {speed(direct)}", loc="right", fontsize=7.5, color="#666666", pad=3)
    axes.set_xlim(0, max(speeds, default=1.0) * _ROOM)
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(left=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _name(row: str) -> str:
    what, _, connections = row.rpartition(" x ")
    return f"{what}, {'one stream' if connections == '1' else f'{connections} connections'}"
