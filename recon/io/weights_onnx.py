"""ONNX files: read as a list of nodes and their arrays, and written from one.

The package `onnx` is needed: it is in the extra `onnx`, and is imported when the first file is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import ConfigError, DataError
from recon.io.atomic import replace_file

OPSET = 17
"""Of the files that are written; onnxruntime reads it since 1.12."""


@dataclass(frozen=True)
class OnnxNode:
    """One operation.

    Attributes:
        operator: "Conv", "Gemm" and so on.
        name: as the file has it; may be empty.
        inputs: names of values or arrays; empty for one that is left out.
        outputs: names of values.
        attributes: numbers, strings, lists and arrays.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class OnnxNetwork:
    """A network as it lies in a file.

    Attributes:
        path: of the file.
        nodes: in an order in which they can be computed.
        arrays: weights by name, constants included.
        inputs: names and shapes of the inputs; a length is 0 where it is free.
    """

    path: Path
    nodes: tuple[OnnxNode, ...]
    arrays: dict[str, np.ndarray]
    inputs: dict[str, tuple[int, ...]]


def _onnx() -> Any:
    try:
        return import_module("onnx")
    except ImportError as error:
        raise ConfigError(
            "reading and writing ONNX needs the package onnx: pip install 'recon-hep[onnx]'"
        ) from error


def read_onnx(path: Path) -> OnnxNetwork:
    """Read a network.

    Args:
        path: of the file.

    Raises:
        DataError: the file is absent or damaged.
        ConfigError: the package `onnx` is not installed.
    """
    onnx = _onnx()
    numpy_helper = import_module("onnx.numpy_helper")
    try:
        graph = onnx.load(str(path)).graph
    # What a damaged file raises belongs to protobuf, whose classes differ between its versions.
    except Exception as error:
        raise DataError(f"{path} cannot be read as ONNX: {error}") from error
    if not graph.node:
        raise DataError(f"{path} cannot be read as ONNX: it has no nodes")
    arrays = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    nodes = []
    for node in graph.node:
        attributes = {item.name: _attribute(onnx, numpy_helper, item) for item in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            arrays[node.output[0]] = attributes["value"]
        nodes.append(OnnxNode(node.op_type, node.name, tuple(node.input), tuple(node.output), attributes))
    inputs = {
        item.name: tuple(axis.dim_value for axis in item.type.tensor_type.shape.dim)
        for item in graph.input
        if item.name not in arrays
    }
    return OnnxNetwork(Path(path), tuple(nodes), arrays, inputs)


def _attribute(onnx: Any, numpy_helper: Any, item: Any) -> Any:
    value = onnx.helper.get_attribute_value(item)
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


@dataclass
class OnnxWriter:
    """A network being put together: every method returns the name of the value it adds.

    Attributes:
        nodes: operations in order, as arguments of ONNX's own constructors.
        arrays: weights by name.
    """

    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def array(self, values: Any, name: str = "") -> str:
        """Add weights or a constant.

        Args:
            values: its numbers; stored once where the same are added again without a name.
            name: of the array.
        """
        array = np.asarray(values)
        if not name:
            for known, other in self.arrays.items():
                if (
                    known.startswith("constant")
                    and other.dtype == array.dtype
                    and np.array_equal(other, array)
                ):
                    return known
        name = name or f"constant{len(self.arrays)}"
        if name in self.arrays:
            raise ConfigError(f"the network has an array {name!r} already")
        self.arrays[name] = array
        return name

    def add(self, operator: str, *inputs: str, name: str = "", place: int = 0, **attributes: Any) -> str:
        """Add an operation of which one output is used.

        Args:
            operator: ONNX's name.
            inputs: names of values and arrays.
            name: of the output.
            place: of the output that is used, among those of the operation.
            attributes: of the operation.
        """
        output = name or f"{operator.lower()}{len(self.nodes)}"
        unused = [f"{output}_{number}" for number in range(place)]
        self.nodes.append((operator, list(inputs), [*unused, output], attributes))
        return output

    def save(
        self,
        path: Path,
        inputs: dict[str, tuple[str, Sequence[int | str]]],
        outputs: dict[str, Sequence[int | str]],
        description: str = "",
    ) -> None:
        """Check the network and write it, whole or not at all.

        Args:
            path: of the file.
            inputs: name -> ("float" or "bool", shape); a string names an axis of free length.
            outputs: name -> shape, of floats.
            description: one line.

        Raises:
            ConfigError: the operations do not fit together, or the package `onnx` is not installed.
        """
        onnx = _onnx()
        helper, numpy_helper = import_module("onnx.helper"), import_module("onnx.numpy_helper")
        kinds = {"float": onnx.TensorProto.FLOAT, "bool": onnx.TensorProto.BOOL}
        graph = helper.make_graph(
            [helper.make_node(operator, given, made, name=made[-1], **attributes)
             for operator, given, made, attributes in self.nodes],
            "recon",
            [helper.make_tensor_value_info(name, kinds[kind], list(shape))
             for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, kinds["float"], list(shape))
             for name, shape in outputs.items()],
            [numpy_helper.from_array(np.ascontiguousarray(array), name)
             for name, array in self.arrays.items()],
            doc_string=description,
        )  # fmt: skip
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="recon", ir_version=8
        )
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ConfigError(f"{path}: the operations do not fit together: {error}") from error
        replace_file(Path(path), model.SerializeToString())
