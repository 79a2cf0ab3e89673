"""Settings of a training of taggers: what, on what, from what, for how long."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from recon.errors import ConfigError
from recon.tagging.flattening import Flatten
from recon.train.classification import FitConfig
from recon.train.optim import Optimizer
from recon.train.precision import Precision


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What to train, on what, and for how long.

    Attributes:
        files: jets with labels (.root or .parquet), of one process or several each.
        output: directory of the run; the model goes to `output/model`.
        model: kind of network: deepak8, deepak8-md, particlenet, particlenet-lite, particletransformer, pcnn, pfn,
            deepcsv; that of `initial`, or deepak8, by default.
        initial: begin from a trained model: a shipped one, a directory, or weights of CMS (.onnx) or weaver (.pt).
            Outputs whose class the files do not have are replaced.
        freeze: train the classifier behind the features alone (deepak8, particlenet); the features of all jets are
            computed once.
        teacher: learn from the probabilities of this model, given like `initial`, too; its classes may be others.
        distill: share of the teacher in the loss, the labels have the rest.
        softness: temperature that both sides' probabilities are softened by.
        adversary: strength of an adversary that reads the mass of the background off the features; 0 for none.
        flatten: which spectra to make flat: pt, pt-mass (which hides the mass), none; pt-mass for deepak8-md and pt
            else by default.
        balance: a class is drawn in proportion to its number of jets to this power.
        turn: turn and reflect the jets by chance.
        validation: fraction of the jets that is held out.
        test: files of jets that the numbers at the end are of; the jets held out if not given.
        epochs: passes over the jets.
        steps: updates; 0 leaves it to `epochs`.
        batch: jets of an update.
        optimizer: `adamw` or `muon`; see `recon.train.optim`.
        learning_rate: its peak.
        warmup: fraction of the run in which it rises.
        weight_decay: of matrices.
        ema_decay: of the averaged weights, which become the model.
        evaluations: during the run; a better one keeps the network.
        patience: evaluations without a better loss after which the run ends; 0 for never.
        precision: of the arithmetic; auto is bfloat16 on accelerators.
        seed: of weights, of the split and of the order of jets.
        resume: go on with a run that is in the directory; without it such a directory is refused.
        checkpoint_every: updates between checkpoints.
        max_seconds: wall time after which to stop with a checkpoint; the same command goes on from there.
        progress: draw a progress bar.
        tensorboard: write TensorBoard events too.
    """

    files: Positional[tuple[Path, ...]]
    output: Annotated[Path, arg(aliases=["-o"])]
    model: str | None = None
    initial: Path | None = None
    freeze: bool = False
    teacher: Path | None = None
    distill: float = 0.5
    softness: float = 2.0
    adversary: float = 0.0
    flatten: Flatten | None = None
    balance: float = 0.5
    turn: bool = True
    validation: float = 0.1
    test: tuple[Path, ...] = ()
    epochs: float = 10.0
    steps: int = 0
    batch: int = 512
    optimizer: Optimizer = "adamw"
    learning_rate: float = 3e-3
    warmup: float = 0.05
    weight_decay: float = 1e-2
    ema_decay: float = 0.995
    evaluations: int = 10
    patience: int = 0
    precision: Precision = "auto"
    seed: int = 0
    resume: bool = True
    checkpoint_every: int = 200
    max_seconds: float | None = None
    progress: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if not self.files:
            raise ConfigError("no file to train on was given; make one with `recon simulate jets`")
        if {path.resolve() for path in self.files} & {path.resolve() for path in self.test}:
            raise ConfigError("a file is given for training and for the test: the numbers would mean nothing")
        if not 0 <= self.distill <= 1 or not self.softness > 0 or self.adversary < 0:
            raise ConfigError(
                f"distill is {self.distill}, softness {self.softness}, adversary {self.adversary}; "
                "allowed: from 0 to 1, above 0, 0 or more"
            )
        if self.freeze and (self.adversary or self.initial is None):
            raise ConfigError(
                "--freeze trains a classifier on the features of --initial, without an adversary"
            )

    @property
    def fit(self) -> FitConfig:
        """Of the training loop."""
        names = {field.name for field in dataclasses.fields(FitConfig)}
        own = {name: value for name, value in vars(self).items() if name in names}
        return FitConfig(directory=self.output, **own)

    def settings(self) -> dict[str, Any]:
        """What decides the result, as JSON values."""
        tree = dataclasses.asdict(self)
        for name in (
            "output",
            "test",
            "resume",
            "checkpoint_every",
            "max_seconds",
            "progress",
            "tensorboard",
        ):
            del tree[name]
        tree["files"] = [path.name for path in self.files]
        for name in ("initial", "teacher"):
            # Every run calls its model "model".
            tree[name] = None if tree[name] is None else "/".join(Path(tree[name]).parts[-2:])
        return tree
