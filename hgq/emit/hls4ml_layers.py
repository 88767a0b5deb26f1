"""The layers that hgq adds to hls4ml's Vivado and Vitis back ends. Importing this imports hls4ml and registers them.

FLOW is the list of hls4ml passes that our projects go through: those that prepare C++. The passes that optimise, infer
types or fix them up (flows 'convert' and 'optimize') are left out: one of them retypes inputs of more than 100 bits,
others fuse or drop layers, and nothing is left for them to find.
"""

from __future__ import annotations

from typing import ClassVar

from hls4ml.backends import get_backend
from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate
from hls4ml.backends.vivado.passes.core_templates import (
    batchnorm_config_template,
    batchnorm_function_template,
    batchnorm_include_list,
)
from hls4ml.model.attributes import Attribute, TypeAttribute, WeightAttribute
from hls4ml.model.flow import get_flow, register_flow
from hls4ml.model.layers import Layer, register_layer
from hls4ml.model.types import Source


class HGQElementwise(Layer):
    """A tensor whose every element is computed by a statement of its own; `code` is the C++ of that function.

    Attributes: shape, function (its name), code (a Source, which hls4ml writes into nnet_code_gen.h).
    """

    _expected_attributes: ClassVar = [
        Attribute("shape", value_type=list),
        Attribute("function", value_type=str),
        Attribute("code", value_type=Source),
    ]

    def initialize(self) -> None:
        self.add_output_variable(list(self.attributes["shape"]))


class HGQElementwiseCall(FunctionCallTemplate):
    def __init__(self) -> None:
        super().__init__(HGQElementwise, include_header=[])

    def format(self, node: Layer) -> str:
        inputs = [node.get_input_variable(name) for name in node.inputs]
        output = node.get_output_variable()
        types = ", ".join(variable.type.name for variable in (*inputs, output))
        names = ", ".join(variable.name for variable in (*inputs, output))
        return f"nnet::{node.get_attr('function')}<{types}>({names});"


class HGQCopies(Layer):
    """Copies of a stream, one for each of its readers.

    Attributes: shape, function (its name), code (a Source, which hls4ml writes into nnet_code_gen.h).
    """

    _expected_attributes: ClassVar = HGQElementwise._expected_attributes

    def initialize(self) -> None:
        for number, name in enumerate(self.outputs):
            variable = "layer{index}_out" + (str(number) if number else "")
            self.add_output_variable(list(self.attributes["shape"]), out_name=name, var_name=variable)


class HGQCopiesCall(FunctionCallTemplate):
    def __init__(self) -> None:
        super().__init__(HGQCopies, include_header=[])

    def format(self, node: Layer) -> str:
        source, copies = node.get_input_variable(), [node.get_output_variable(name) for name in node.outputs]
        names = ", ".join(variable.name for variable in (source, *copies))
        return f"nnet::{node.get_attr('function')}<{source.type.name}, {copies[0].type.name}>({names});"


class HGQConv(Layer):
    """A convolution; `code` is its C++, which reads the constants as arrays.

    Attributes: shape, function (its name), code (a Source, which hls4ml writes into nnet_code_gen.h).
    """

    _expected_attributes: ClassVar = [
        Attribute("shape", value_type=list),
        Attribute("function", value_type=str),
        Attribute("code", value_type=Source),
        WeightAttribute("weight"),
        WeightAttribute("bias"),
        TypeAttribute("weight"),
        TypeAttribute("bias"),
    ]

    def initialize(self) -> None:
        self.add_output_variable(list(self.attributes["shape"]))
        for name, letter in (("weight", "w"), ("bias", "b")):
            self.add_weights_variable(name=name, var_name=letter + "{index}")


class HGQConvCall(FunctionCallTemplate):
    def __init__(self) -> None:
        super().__init__(HGQConv, include_header=[])

    def format(self, node: Layer) -> str:
        params = self._default_function_params(node)
        params |= {name: node.get_weights(name).name for name in ("weight", "bias")}
        return "nnet::{function}<{input_t}, {output_t}>({input}, {output}, {weight}, {bias});".format(**params)


class HGQAffine(Layer):
    """scale * x + bias by hls4ml's own nnet::normalize, in full precision.

    A class of its own because hls4ml fuses or removes BatchNormalization nodes.
    """

    _expected_attributes: ClassVar = [
        Attribute("n_in"),
        Attribute("n_filt"),
        WeightAttribute("scale"),
        WeightAttribute("bias"),
        TypeAttribute("scale"),
        TypeAttribute("bias"),
    ]

    def initialize(self) -> None:
        self.add_output_variable(self.get_input_variable().shape)
        for name, letter in (("scale", "s"), ("bias", "b")):
            self.add_weights_variable(name=name, var_name=letter + "{index}")


class HGQAffineConfig(LayerConfigTemplate):
    def __init__(self) -> None:
        super().__init__(HGQAffine)

    def format(self, node: Layer) -> str:
        return batchnorm_config_template.format(**self._default_config_params(node), product_type="mult")


class HGQAffineCall(FunctionCallTemplate):
    def __init__(self) -> None:
        super().__init__(HGQAffine, include_header=batchnorm_include_list)

    def format(self, node: Layer) -> str:
        params = self._default_function_params(node)
        params |= {name: node.get_weights(name).name for name in ("scale", "bias")}
        return batchnorm_function_template.format(**params)


FLOW = "hgq:project"


def _templates() -> list[str]:
    return [*get_flow("vivado:apply_templates").optimizers, *get_flow("vitis:apply_templates").optimizers]


for _layer in (HGQElementwise, HGQCopies, HGQConv, HGQAffine):
    register_layer(_layer.__name__, _layer)
for _template in (HGQElementwiseCall, HGQCopiesCall, HGQConvCall, HGQAffineConfig, HGQAffineCall):
    get_backend("Vivado").register_template(_template)  # Vitis applies the templates of Vivado
register_flow("hgq:init", get_flow("vivado:init_layers").optimizers)
register_flow(
    "hgq:shapes", ["vivado:optimize_pointwise_conv", "vivado:inplace_parallel_reshape"], requires=["hgq:init"]
)
register_flow("hgq:types", get_flow("vivado:specific_types").optimizers, requires=["hgq:shapes"])
register_flow(FLOW, _templates, requires=["hgq:types"])
