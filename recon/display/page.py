"""A plotly figure as a page of its own: one HTML file that needs no network."""

from __future__ import annotations

from html import escape
from pathlib import Path

import plotly.graph_objects as go

from recon.errors import ConfigError

_PAGE_STYLE = "<style>body { margin: 0; overflow: hidden; }</style>"


def write_page(path: Path, figure: go.Figure, title: str) -> None:
    """Write a figure that fills the window; the file contains the drawing library and loads nothing else.

    Args:
        path: HTML to write; missing directories are made.
        figure: to draw.
        title: of the page.

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
        default_height="100vh",
        config={"displaylogo": False, "responsive": True},
    )
    path.write_text(page.replace("<head>", f"<head><title>{escape(title)}</title>{_PAGE_STYLE}", 1), "utf-8")
