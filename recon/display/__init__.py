"""Pictures: `curves`, `event` (2D views, PNG), `event_html` (3D, HTML), `scene` (what those draw).

The only place that imports matplotlib, mplhep and plotly. Every function writes one file and leaves no figure
open; no window system is needed.
"""
