"""A plotly figure as a page of its own: one HTML file that needs no network."""

from __future__ import annotations

from html import escape
from pathlib import Path

import plotly.graph_objects as go

from recon.errors import ConfigError

_WINDOW = "100vh"
_STYLE = "<style>body { margin: 0; overflow: %s; }</style>"


def write_page(path: Path, figure: go.Figure, title: str, *, height: int | None = None) -> None:
    """Write a figure that fills the window, or is as high as told; the file loads nothing from elsewhere.

    Args:
        path: HTML to write; missing directories are made.
        figure: to draw.
        title: of the page.
        height: of the figure, pixels; that of the window if not given.

    Raises:
        ConfigError: the file name does not end in .html.
    """
    if path.suffix != ".html":
        raise ConfigError(f"cannot write {path}: allowed are file names that end in .html")
    path.parent.mkdir(parents=True, exist_ok=True)
    page = figure.to_html(
        include_plotlyjs=True,
        include_mathjax=False,
        full_html=True,
        default_height=_WINDOW if height is None else f"{height}px",
        config={"displaylogo": False, "responsive": True},
    )
    style = _STYLE % ("hidden" if height is None else "auto")
    path.write_text(page.replace("<head>", f"<head><title>{escape(title)}</title>{style}", 1), "utf-8")
