"""Transformers and parameter-efficient tuning, small enough to read.

Read the library in this order. A module imports only what stands above it, and what the last two lines name:

    models/       attention, then cache and layers, then gpt, bert, seq2seq (BART), and classifier.
                  fast repeats what they say in fewer operations, watch collects attention weights: skip both
    text/         tokenizer, corpora on disk, batches
    training/     losses, then the one training loop
    generation/   sampling, then beam search
    tuning/       method (the life of a method: onto a frozen base, trained, off again), then hooks, then the methods
    metrics       accuracy and F1; BLEU, chrF and ROUGE by the libraries that everyone uses
    published     GPT-2, BERT and BART as they are published, in our models
    checkpoint, files, checks, errors

A prefix comes from `PrefixTuning.prefixes` (tuning/prefix.py), is handed to each call of the base by a hook
(`before_each_call` in tuning/hooks.py), and meets attention in `Attention.forward` (models/attention.py), where
`prepend` puts its keys and values in front of the text's.

`minitransformer.course` is the machine around the lessons; the library imports nothing of it.

Where a docstring says that something is refused, a `UserError` is raised: a sentence that says what would be right.

The names below can be imported from `minitransformer` itself; PyTorch is loaded with the first of them.
"""

import typing

__version__ = "0.1.0"

_PUBLIC = {
    "models.attention": ("Attention", "Prefix"),
    "models.gpt": ("GPT", "GPTConfig"),
    "models.bert": ("Bert", "BertConfig"),
    "models.seq2seq": ("Seq2Seq", "Seq2SeqConfig"),
    "models.classifier": ("Classifier",),
    "text.tokenizer": ("Tokenizer", "train_bpe"),
    "training.loop": ("TrainConfig", "evaluate", "train"),
    "training.losses": ("bert_loss", "classification_loss", "language_model_loss", "seq2seq_loss"),
    "generation.sampling": ("generate", "generate_texts"),
    "generation.beam": ("beam_search",),
    "tuning.adapter": ("Adapter",),
    "tuning.full": ("BitFit", "FullFineTuning", "TopLayers"),
    "tuning.infix": ("Infix",),
    "tuning.lora": ("LoRA",),
    "tuning.method": ("attached", "load"),
    "tuning.prefix": ("PrefixTuning", "for_each_row"),
    "tuning.prompt": ("PTuning", "PromptTuning"),
    "tuning.scales": ("IA3",),
    "checkpoint": ("load_model", "save_model"),
    "published": ("from_transformers", "load_pretrained"),
    "errors": ("UserError",),
}
_MODULE = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> "typing.Any":
    """Import a public name when it is first asked for, so that a command's first line does not wait for PyTorch."""
    if name not in _MODULE:
        raise AttributeError("module 'minitransformer' has no attribute " + repr(name))
    import importlib

    value = getattr(importlib.import_module("minitransformer." + _MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    """What the module holds, and the public names that were not asked for yet."""
    return sorted({*globals(), *__all__})
