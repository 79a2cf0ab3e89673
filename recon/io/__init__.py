"""Files in and out: `root` (uproot), `trackml` and `acts_csv` (CSV).

Units inside are mm, GeV, ns, rad; `io` converts.
"""
