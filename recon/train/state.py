"""Training state and the compiled update: an NNX module taken apart, plain `jax.jit` and `jax.grad`.

Data parallelism leaves the loss untouched: the batch is sharded along its leading axis, the state is
replicated and the compiler inserts the reductions. Any normalisation of the loss (by valid edges, by weights)
therefore stays that of the global batch, which averaging the gradients of shards would not give.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from recon.errors import ConfigError
from recon.train.optim import OptimConfig, make_optimizer

Batch = Any
"""Any tree of arrays; with several devices every leaf has the same leading batch axis."""

LossFn = Callable[[Any, Batch, jax.Array], tuple[jax.Array, Mapping[str, jax.Array]]]
"""(model, batch, key) -> (scalar loss, scalar metrics); the model is the merged NNX module."""

StepFn = Callable[["TrainState", Batch], tuple["TrainState", dict[str, jax.Array]]]


@flax.struct.dataclass
class TrainState:
    """Everything a training run needs to go on, as one tree of arrays.

    Attributes:
        step: i32[], updates made.
        params: pure `nnx.State` of the trainable parameters.
        model_state: pure `nnx.State` of the rest (batch statistics, dropout counters).
        opt_state: of the optimiser.
        ema_params: average of `params` over the updates; `None` when none is kept.
        rng: key data u32 of the run; each update folds its step in.
        graphdef: the static half of the module, not part of the tree.
    """

    step: Any
    params: Any
    model_state: Any
    opt_state: Any
    ema_params: Any
    rng: Any
    graphdef: Any = flax.struct.field(pytree_node=False)


def create_state(model: nnx.Module, config: OptimConfig, *, seed: int) -> TrainState:
    """Take a module apart into a fresh state at step 0.

    The arrays are copies: the update donates the state's buffers, the module keeps its own.

    Args:
        model: in training mode if it has one; `merge_model` gives back modules in the same mode.
        config: decides the optimiser's state and whether an average is kept.
        seed: of the keys handed to the loss.
    """
    graphdef, *states = nnx.split(model, nnx.Param, ...)
    trainable, model_state = states
    params = _fresh(nnx.as_pure(trainable))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=_fresh(nnx.as_pure(model_state)),
        opt_state=_fresh(make_optimizer(config).init(params)),
        ema_params=_fresh(params) if config.ema_decay else None,
        rng=jax.random.key_data(jax.random.key(seed)),
        graphdef=graphdef,
    )


def _fresh(tree: Any) -> Any:
    """Copies with strong types: a weak one would turn strong in the first update and compile it twice."""

    def copy(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = jnp.array(jax.random.key_data(leaf), copy=True)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        return jnp.array(leaf, dtype=leaf.dtype, copy=True)

    return jax.tree.map(copy, tree)


def merge_model(state: TrainState, *, ema: bool = False) -> Any:
    """The NNX module with the state's parameters, on copies.

    Args:
        state: of the run.
        ema: take the averaged parameters.

    Raises:
        ConfigError: when `ema` is asked of a state that keeps no average.
    """
    if ema and state.ema_params is None:
        raise ConfigError(
            "the averaged weights were asked for, but the state keeps none; set OptimConfig.ema_decay"
        )
    params = state.ema_params if ema else state.params
    return nnx.merge(state.graphdef, params, state.model_state, copy=True)


def data_mesh() -> Mesh | None:
    """All devices along one axis "data"; `None` on a single device."""
    devices = jax.devices()
    if len(devices) == 1:
        return None
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def make_train_step(loss_fn: LossFn, config: OptimConfig, *, mesh: Mesh | None = None) -> StepFn:
    """Compile one update.

    The state's buffers are donated: use the returned state only. Batches of one shape compile once.

    Args:
        loss_fn: pure but for the module it is given, whose batch statistics it may update.
        config: the same as given to `create_state`.
        mesh: from `data_mesh()`; `None` runs on the default device.

    Returns:
        (state, batch) -> (state, metrics): scalars "loss", "grad_norm" (before clipping), those of `loss_fn`.
    """
    optimizer = make_optimizer(config)

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        return _update(state, batch, loss_fn, optimizer, config.ema_decay)

    if mesh is None:
        return jax.jit(update, donate_argnums=0)
    return _sharded(update, mesh)


def _update(
    state: TrainState,
    batch: Batch,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)

    def loss_of(params: Any) -> tuple[jax.Array, tuple[Mapping[str, jax.Array], Any]]:
        model = nnx.merge(state.graphdef, params, state.model_state, copy=True)
        loss, metrics = loss_fn(model, batch, key)
        return loss, (metrics, nnx.as_pure(nnx.state(model, nnx.Not(nnx.Param))))

    (loss, (metrics, model_state)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    following = dataclasses.replace(
        state,
        step=state.step + 1,
        params=params,
        model_state=model_state,
        opt_state=opt_state,
        ema_params=_average(state.ema_params, params, state.step, ema_decay),
    )
    return following, {"loss": loss, "grad_norm": optax.tree.norm(gradients), **metrics}


def _average(ema_params: Any, params: Any, step: jax.Array, decay: float) -> Any:
    """Exponential moving average whose memory grows with the run, so that it forgets the random start."""
    if ema_params is None:
        return None
    weight = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old + weight.astype(old.dtype) * (new - old), ema_params, params)


def _sharded(update: StepFn, mesh: Mesh) -> StepFn:
    replicated = NamedSharding(mesh, PartitionSpec())
    along_batch = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
    compiled = jax.jit(update, donate_argnums=0, out_shardings=(replicated, replicated))

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        check_divisible(batch, mesh.size)
        return compiled(jax.device_put(state, replicated), jax.device_put(batch, along_batch))

    return step


def check_divisible(batch: Batch, n_devices: int) -> None:
    """Refuse a batch that does not split evenly.

    Raises:
        ConfigError: naming the leaf whose leading axis is not a multiple of `n_devices`.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        shape = np.shape(leaf)
        if not shape or shape[0] % n_devices:
            name = jax.tree_util.keystr(path) or "the batch"
            raise ConfigError(
                f"{name} has shape {shape}: on {n_devices} devices the first axis must be a multiple of that"
            )
