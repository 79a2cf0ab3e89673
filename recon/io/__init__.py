"""Files in and out: `root` (uproot), `trackml` and `acts_csv` (CSV), `jets` (ROOT and parquet), `root_pfnano`, `weaver`.

Units inside are mm, GeV, ns, rad; `io` converts.
"""
