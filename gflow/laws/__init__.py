"""What gradient flow conserves: laws of networks, found from their layers, and their count."""

from gflow.laws.counting import Count, count
from gflow.laws.law import Law, law_values
from gflow.laws.scaled import scaled_laws
from gflow.laws.tracing import laws_of_module as find

__all__ = ["Count", "Law", "count", "find", "law_values", "scaled_laws"]
