"""GMPQ: widths searched on one data set, deployed on another (Wang, Xiao, Lu, Zhou; ICCV 2021).

A super-net holds every candidate width of each layer at once; its weights and the shares of the candidates are trained
together while the attribution of the float network is kept in order (`search`). The likeliest widths are the policy
(`likeliest`, `likeliest_within`), which `deploy` and `finetune` bring to a network on any data.
"""

from hgq.methods.gmpq.choice import likeliest, likeliest_within
from hgq.methods.gmpq.deploy import deploy, finetune, layer_types
from hgq.methods.gmpq.imitation import rank_correlation, rank_distance
from hgq.methods.gmpq.quantize import quantize
from hgq.methods.gmpq.search import Search, attribution_maps, search
from hgq.methods.gmpq.supernet import Candidates, SuperNet
from hgq.methods.gmpq.trim import trim, zeros_held

__all__ = ["Candidates", "Search", "SuperNet", "attribution_maps", "deploy", "finetune", "layer_types", "likeliest"]
__all__ += ["likeliest_within", "quantize", "rank_correlation", "rank_distance", "search", "trim", "zeros_held"]
