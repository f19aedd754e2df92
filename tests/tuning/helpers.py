"""What the tests of the tuning methods share: every method on every base, and padded batches for each."""

from functools import partial

import torch
from torch import Tensor, nn

from minitransformer.models.bert import Bert
from minitransformer.models.gpt import GPT
from minitransformer.text.batches import IGNORE
from minitransformer.training.loop import TrainConfig, train
from minitransformer.training.losses import bert_loss, language_model_loss, seq2seq_loss
from minitransformer.tuning import Method, methods, virtual_ids
from tests.helpers import SEQ2SEQ_CONFIG, mask_of, random_ids, tiny_bert, tiny_gpt, tiny_seq2seq
from tests.tuning import toy  # noqa: F401  a method is known by its file being read

B, T, P = 3, 7, 3
LENGTHS = [7, 3, 5]
START, END = SEQ2SEQ_CONFIG.start_id, SEQ2SEQ_CONFIG.end_id

BASES = {"gpt": tiny_gpt, "bert": tiny_bert, "seq2seq": tiny_seq2seq}
METHODS = {name: partial(kind, **settings) for kind in methods().values() for name, settings in kind.examples.items()}
PAIRS = [
    (base, name)
    for base, make_base in BASES.items()
    for name, method in METHODS.items()
    if isinstance(make_base(), method.func.goes_onto)
]
PAIR_NAMES = ["-".join(pair) for pair in PAIRS]


def make(base: str, method: str, seed: int = 0) -> tuple:
    """A tiny random base, and a method that is not on it yet."""
    torch.manual_seed(seed)
    return BASES[base](), METHODS[method]()


def needs_virtual_ids(method: Method) -> bool:
    """Whether the text has to say where the virtual tokens are."""
    return method.reads_virtual_ids


def insert(ids: Tensor, at: int, new: list[int]) -> Tensor:
    """Put the same columns into every row, in front of column `at`."""
    return torch.cat([ids[:, :at], torch.tensor(new, dtype=ids.dtype).expand(len(ids), -1), ids[:, at:]], dim=1)


def batch_for(base: nn.Module, method: nn.Module | None = None, seed: int = 0) -> dict[str, Tensor]:
    """A batch of unequal rows to train on: a GPT's padded on the left, the others' on the right."""
    left = isinstance(base, GPT)
    batch = {"ids": random_ids(B, T, seed=seed), "attention_mask": mask_of(LENGTHS, T, left)}
    if not isinstance(base, GPT | Bert):
        batch |= {"source": random_ids(B, T, seed=seed + 100), "source_mask": mask_of([4, 7, 3], T)}
    if method is not None and needs_virtual_ids(method):
        ids, attention_mask = ("source", "source_mask") if "source" in batch else ("ids", "attention_mask")
        at = T - 2 if left else 1  # between real tokens in every row
        batch[ids] = insert(batch[ids], at, virtual_ids(method.length))
        batch[attention_mask] = insert(batch[attention_mask], at, [1] * method.length)
    batch["labels"] = batch["ids"].masked_fill(~batch["attention_mask"] | (batch["ids"] < 0), IGNORE)
    if isinstance(base, Bert):
        batch["next_label"] = torch.tensor([0, 1, 1])
    return batch


def loss_of(base: nn.Module):
    """What each base is trained on."""
    if isinstance(base, GPT):
        return language_model_loss
    return bert_loss if isinstance(base, Bert) else seq2seq_loss


@torch.no_grad()
def outputs(base: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """What the base gives at the real tokens of a batch, one row each."""
    inputs = {name: batch[name] for name in ("ids", "attention_mask", "source", "source_mask") if name in batch}
    return base(**inputs)[batch["attention_mask"]]


@torch.no_grad()
def everything(base: nn.Module, batch: dict[str, Tensor]) -> list[Tensor]:
    """`outputs`, and those of a BERT's heads."""
    found = outputs(base, batch)
    if not isinstance(base, Bert):
        return [found]
    hidden = base(batch["ids"], attention_mask=batch["attention_mask"])
    return [found, base.pooled(hidden), base.mlm_logits(hidden, batch["attention_mask"]), base.nsp_logits(hidden)]


@torch.no_grad()
def stir(method: nn.Module, seed: int = 0, std: float = 0.15) -> nn.Module:
    """Give everything that a method on a base trains random numbers, so that nothing is zero or one any more."""
    generator = torch.Generator().manual_seed(100 + seed)
    for p in method.trainable():
        p.normal_(std=std, generator=generator)
    return method


def train_steps(base: nn.Module, batch: dict[str, Tensor], steps: int = 2, lr: float = 0.02) -> None:
    """Some steps of the one training loop."""
    train(base, lambda i: batch, TrainConfig(steps=steps, lr=lr), loss=loss_of(base), progress=False)


def traces(base):
    """Everything in which a model could differ from what it was: numbers, flags, hooks, attributes, gradients."""
    hooks = [name for name in vars(nn.Module()) if "hook" in name]
    return {
        "state_dict": {name: tensor.clone() for name, tensor in base.state_dict().items()},
        "requires_grad": {name: p.requires_grad for name, p in base.named_parameters()},
        "gradients": {name: p.grad for name, p in base.named_parameters()},
        "hooks": {name: {h: dict(getattr(m, h) or {}) for h in hooks} for name, m in base.named_modules()},
        "attributes": {name: sorted(vars(m)) for name, m in base.named_modules()},
        "modules": [name for name, _ in base.named_modules()],
        "modes": [m.training for m in base.modules()],
    }


def assert_no_trace(base, before, after_what):
    after = traces(base)
    for what in before:
        if what == "state_dict":
            assert before[what].keys() == after[what].keys(), f"{after_what}: the base has other tensors"
            wrong = [name for name, tensor in before[what].items() if not torch.equal(tensor, after[what][name])]
            assert not wrong, f"{after_what}: these of the base's tensors changed: {wrong}"
        else:
            assert after[what] == before[what], f"{after_what}: the base's {what} are not what they were"
