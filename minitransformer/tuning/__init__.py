"""Tuning methods: each goes onto a base and off again, and trains as little as it can.

Read `method` first, what all of them share, then `prefix`. Here lives what is trained beside a base, and nothing about
how it is trained (`training`) or what about (the tasks). A method is known by its file being in this folder: every
module here is imported, and `methods()` lists what they define.
"""

from importlib import import_module
from pkgutil import iter_modules

from minitransformer.tuning.adapter import Adapter
from minitransformer.tuning.bases import Base, fingerprint
from minitransformer.tuning.full import BitFit, FullFineTuning, TopLayers
from minitransformer.tuning.infix import Infix
from minitransformer.tuning.lora import LoRA
from minitransformer.tuning.method import Method, Report, attached, attached_to, load, methods
from minitransformer.tuning.prefix import PrefixTuning, activations, for_each_row
from minitransformer.tuning.prompt import PromptTuning, PTuning, nearest_words
from minitransformer.tuning.scales import IA3
from minitransformer.tuning.virtual import virtual_ids

__all__ = ["Adapter", "BitFit", "FullFineTuning", "IA3", "Infix", "LoRA", "PTuning", "PrefixTuning", "PromptTuning"]
__all__ += ["TopLayers", "Base", "Method", "Report", "attached", "attached_to", "fingerprint", "load", "methods"]
__all__ += ["activations", "for_each_row", "nearest_words", "virtual_ids"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
