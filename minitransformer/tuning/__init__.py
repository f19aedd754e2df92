"""Tuning methods: each a module that goes onto a frozen base and off again."""

from minitransformer.tuning.adapter import Adapter
from minitransformer.tuning.full import BitFit, FullFineTuning, TopLayers
from minitransformer.tuning.lora import LoRA
from minitransformer.tuning.method import Method, Report, attached, attached_to, fingerprint, load
from minitransformer.tuning.prefix import Infix, PrefixTuning, activations, for_each_row, virtual_ids
from minitransformer.tuning.prompt import PromptTuning, PTuning, nearest_words
from minitransformer.tuning.scales import IA3

__all__ = [
    "Adapter",
    "BitFit",
    "FullFineTuning",
    "IA3",
    "Infix",
    "LoRA",
    "Method",
    "PTuning",
    "PrefixTuning",
    "PromptTuning",
    "Report",
    "TopLayers",
    "activations",
    "attached",
    "attached_to",
    "fingerprint",
    "for_each_row",
    "load",
    "nearest_words",
    "virtual_ids",
]
