"""`recon bench serving`: the measurements of `serving.study` as pictures, CSV and a table beside published ones."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from serving import study
from serving.errors import ServingError

USER_ERROR = 2

PUBLISHED = (
    ("Xeon, 1 core", "1.75 s"),
    ("i7, 1 core", "500 ms"),
    ("i7, 8 cores", "200 ms"),
    ("GTX 1080, from Python", "100 ms"),
    ("GTX 1080, inside TensorFlow", "7 ms"),
    ("Brainwave, on-prem", "10 ms"),
    ("Brainwave, remote", "56 ms"),
)
"""ResNet-50 on one image of 224 x 224 pixels: total inference times in the talk that introduced SONIC."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure.

    Attributes:
        models: folder of the models; every server that is started loads all of it.
        model: one that takes batches of rows; `recon export resnet50` writes the one of the published table.
        output: folder of the pictures and tables.
        calls: single calls of a latency.
        seconds: time of a throughput.
        clients: numbers of simultaneous clients.
        servers: numbers of servers.
        threads: threads of an execution.
        delay_ms: of the remote network, each way.
        seed: of the inputs.
        json: write everything here, too.
    """

    models: Path = Path("models")
    model: str = "resnet50_featurizer"
    output: Path = Path("out/serving")
    calls: int = 30
    seconds: float = 5.0
    clients: tuple[int, ...] = (1, 2, 4, 8)
    servers: tuple[int, ...] = (1, 2)
    threads: tuple[int, ...] = (1, 2)
    delay_ms: float = 25.0
    seed: int = 0
    json: Path | None = None


class Results:
    """Rows as they are measured: every one is shown and written at once."""

    def __init__(self, options: Options) -> None:
        self.options, self.rows = options, list[dict[str, Any]]()
        self.console = Console(soft_wrap=True)
        options.output.mkdir(parents=True, exist_ok=True)

    def add(self, what: str, setting: str, seconds: np.ndarray, **more: float) -> None:
        """One measurement."""
        low, middle, high = 1e3 * np.percentile(seconds, (5, 50, 99))
        row = {"what": what, "setting": setting, "p5_ms": low, "p50_ms": middle, "p99_ms": high, **more}
        self.rows.append(row)
        extra = "".join(f", {name} {value:.4g}" for name, value in more.items())
        self.console.print(f"{what} {setting}: median {middle:.2f} ms, 99 % below {high:.2f} ms{extra}")
        names = list(dict.fromkeys(name for entry in self.rows for name in entry))
        with (self.options.output / "measurements.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)
        if self.options.json is not None:
            content = {"model": self.options.model, "seed": self.options.seed, "rows": self.rows}
            self.options.json.write_text(json.dumps(content, indent=2))

    def of(self, what: str) -> list[dict[str, Any]]:
        """Rows of one kind."""
        return [row for row in self.rows if row["what"] == what]


def bench(arguments: list[str]) -> int:
    """Run the command.

    Args:
        arguments: of the command line, without `recon bench serving`.
    """
    import tyro  # noqa: PLC0415 - `recon --help` must not wait for it

    options = tyro.cli(Options, prog="recon bench serving", args=arguments)
    try:
        _measure(options)
    except (ServingError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="bold red", markup=False)
        return USER_ERROR
    return 0


def _measure(options: Options) -> None:
    results = Results(options)
    manifest = study.read_manifest(options.models, options.model)
    inputs = study.random_inputs(manifest, 1, options.seed)
    samples = {}
    delay = options.delay_ms / 1e3
    for place, seconds in study.places(options.models, options.model, inputs, options.calls, delay):
        samples[place] = seconds
        results.add("latency", place, seconds)
    for servers in options.servers:
        loads = study.throughputs(
            options.models, options.model, inputs, options.clients, servers, options.seconds
        )
        for clients, load in loads:
            setting = f"{clients} clients, {servers} servers"
            results.add(
                "throughput", setting, load.latencies, rate=load.rate, clients=clients, servers=servers
            )
    for threads in options.threads:
        seconds, memory = study.with_threads(options.models, options.model, inputs, threads, options.calls)
        results.add("threads", str(threads), seconds, threads=threads, memory_mb=memory / 1e6)
    for rows, seconds in study.batches(options.models, manifest, options.seed, max(3, options.calls // 5)):
        results.add("batch", str(rows), seconds, rows=rows, item_ms=1e3 * float(np.median(seconds)) / rows)
    (options.output / "table.md").write_text(_table(results))
    _draw(results, samples)
    results.console.print(f"wrote {options.output}/: measurements.csv, table.md and four pictures")


def _table(results: Results) -> str:
    lines = ["| where | one call |", "| --- | ---: |"]
    lines += [f"| {name} (published) | {value} |" for name, value in PUBLISHED]
    lines += [f"| this machine, {row['setting']} | {row['p50_ms']:.1f} ms |" for row in results.of("latency")]
    best = min(results.of("batch"), key=lambda row: row["item_ms"])
    lines.append(f"| this machine, batch {best['rows']}, an item | {best['item_ms']:.1f} ms |")
    return "\n".join(lines) + "\n"


def _draw(results: Results, samples: dict[str, np.ndarray]) -> None:
    """Four pictures: latency, throughput, threads, batch size."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    output = results.options.output
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    everything = 1e3 * np.concatenate(list(samples.values()))
    bins = np.geomspace(0.9 * everything.min(), 1.1 * everything.max(), 60).tolist()
    for place, seconds in samples.items():
        axes.hist(1e3 * seconds, bins, histtype="stepfilled", alpha=0.6, label=place)
    axes.set(xscale="log", xlabel="latency of a call [ms]", ylabel="calls", title=results.options.model)
    axes.legend()
    figure.savefig(output / "latency.png", dpi=130)
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for servers in results.options.servers:
        rows = [row for row in results.of("throughput") if row["servers"] == servers]
        label = f"{servers} server{'s' * (servers > 1)}"
        axes.plot([row["clients"] for row in rows], [row["rate"] for row in rows], "o-", label=label)
    axes.set(
        xlabel="simultaneous clients", ylabel="calls a second", title=results.options.model, ylim=(0, None)
    )
    axes.legend()
    figure.savefig(output / "throughput.png", dpi=130)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    rows = results.of("threads")
    left.plot([row["threads"] for row in rows], [row["p50_ms"] for row in rows], "o-")
    left.set(xlabel="threads of an execution", ylabel="median latency [ms]", ylim=(0, None))
    right.plot([row["threads"] for row in rows], [row["memory_mb"] for row in rows], "o-")
    right.set(xlabel="threads of an execution", ylabel="memory of the server [MB]", ylim=(0, None))
    figure.savefig(output / "threads.png", dpi=130)
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    rows = results.of("batch")
    axes.plot([row["rows"] for row in rows], [row["item_ms"] for row in rows], "o-")
    axes.set(
        xscale="log",
        xlabel="batch size",
        ylabel="time an item [ms]",
        ylim=(0, None),
        title=results.options.model,
    )
    figure.savefig(output / "batch.png", dpi=130)
    plt.close("all")
