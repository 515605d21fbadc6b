"""Right-hand sides of gradient flow, one file a flow; each pure function is exported too."""

from gflow.flows.base import Flow, ParameterFlow, ReducedFlow
from gflow.flows.central import CentralFlow
from gflow.flows.closed_forms import aligned_mode, riccati
from gflow.flows.deep_linear import LayerwiseFlow, balanced_layers, layer_product, layerwise_rhs
from gflow.flows.diagonal import DiagonalFlow, diagonal_rhs
from gflow.flows.end_to_end import EndToEndFlow, end_to_end_rhs, single_output_rhs
from gflow.flows.factorization import FactorFlow, ProductFlow, factor_rhs, product_rhs
from gflow.flows.from_loss import LossFlow, flow_from_loss
from gflow.flows.kernel import KernelFlow, Prediction, kernel_rhs
from gflow.flows.modified import ModifiedFlow
from gflow.flows.network import NetworkFlow, gradient_rhs
from gflow.flows.normalised import NormalisedFlow
from gflow.flows.spectral import SpectralFlow
from gflow.flows.two_layer import (
    TwoLayerFlow,
    two_layer_gram,
    two_layer_outputs,
    two_layer_rhs,
)

__all__ = [
    "CentralFlow",
    "DiagonalFlow",
    "EndToEndFlow",
    "FactorFlow",
    "Flow",
    "KernelFlow",
    "LayerwiseFlow",
    "LossFlow",
    "ModifiedFlow",
    "NetworkFlow",
    "NormalisedFlow",
    "ParameterFlow",
    "Prediction",
    "ProductFlow",
    "ReducedFlow",
    "SpectralFlow",
    "TwoLayerFlow",
    "aligned_mode",
    "balanced_layers",
    "diagonal_rhs",
    "end_to_end_rhs",
    "factor_rhs",
    "flow_from_loss",
    "gradient_rhs",
    "kernel_rhs",
    "layer_product",
    "layerwise_rhs",
    "product_rhs",
    "riccati",
    "single_output_rhs",
    "two_layer_gram",
    "two_layer_outputs",
    "two_layer_rhs",
]
