"""Files in and out: `root` (uproot), `trackml`, `acts_csv` (CSV), `jets` (ROOT, parquet), `root_pfnano`, `weaver`.

Units inside are mm, GeV, ns, rad; `io` converts.
"""
