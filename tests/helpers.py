"""Tiny random models and prefixes that several test files share."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from minitransformer.generation.sampling import left_pad
from minitransformer.models.attention import Prefix
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig

GPT_CONFIG = GPTConfig(vocab_size=40, n_positions=24, n_layer=3, n_head=2, d_model=8, d_ff=20)
BERT_CONFIG = BertConfig(vocab_size=40, n_positions=24, n_layer=3, n_head=2, d_model=8, d_ff=20)
SEQ2SEQ_CONFIG = Seq2SeqConfig(
    vocab_size=40,
    n_positions=24,
    n_encoder_layer=2,
    n_decoder_layer=3,
    n_head=2,
    d_model=8,
    d_ff=20,
    pad_id=1,
    start_id=2,
    end_id=3,
)


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0, std: float = 0.3) -> nn.Module:
    """Give every parameter and buffer random numbers, biases and norms too, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(seed)
    scales = {id(norm.weight) for norm in model.modules() if isinstance(norm, nn.LayerNorm)}
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.normal_(mean=float(id(tensor) in scales), std=std, generator=generator)
    return model.eval()


def tiny_gpt(seed: int = 0, config: GPTConfig = GPT_CONFIG) -> GPT:
    return randomise(GPT(config), seed)


def tiny_bert(seed: int = 0, config: BertConfig = BERT_CONFIG) -> Bert:
    return randomise(Bert(config), seed)


def tiny_seq2seq(seed: int = 0, config: Seq2SeqConfig = SEQ2SEQ_CONFIG) -> Seq2Seq:
    return randomise(Seq2Seq(config), seed)


def random_prefix(
    n_layer: int, n_head: int, d_head: int, length: int = 2, batch: int = 1, seed: int = 0
) -> list[Prefix]:
    """Random keys and values for each layer, (batch, n_head, length, d_head)."""
    generator = torch.Generator().manual_seed(1000 + seed)
    shape = (batch, n_head, length, d_head)
    return [
        Prefix(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)) for _ in range(n_layer)
    ]


def random_ids(*shape: int, vocab_size: int = 40, seed: int = 0) -> Tensor:
    """Random token ids, none of them one of the first four, which the tests use as special tokens."""
    return torch.randint(4, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def mask_of(lengths: list[int], width: int, left: bool = False) -> Tensor:
    """An attention mask of rows with these many real tokens, padded to `width` on the right, or on the left."""
    columns = torch.arange(width)
    lengths = torch.tensor(lengths)[:, None]
    return columns >= width - lengths if left else columns < lengths


def assert_close(actual: Tensor, expected: Tensor, message: str, tolerance: float = 1e-5) -> None:
    """Equal to within an absolute tolerance; the message says what is likely wrong."""
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0, msg=lambda default: f"{message}\n{default}")


class OnGPU(Tensor):
    """Says that it is on a GPU, and is not: `x.as_subclass(OnGPU)`."""

    is_cuda = True


def devices_of_the_first_call(model: nn.Module, run: object) -> set[str]:
    """Where the tensors are that `run()` gives the model when it first calls it, beside those inside others."""

    class Enough(Exception):
        pass

    def look(module: nn.Module, args: tuple, kwargs: dict) -> None:
        devices.update(str(value.device) for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        raise Enough

    devices, hook = set(), model.register_forward_pre_hook(look, with_kwargs=True)
    with suppress(Enough):
        run()
    hook.remove()
    return devices


def assert_it_writes_where_the_model_is(
    write: Callable[[], object], module: object, prompts: list[list[int]], monkeypatch
) -> None:
    """What is made without a device while a model on the CPU writes would stand where it cannot be used.

    As in test_devices, "meta", whose tensors have no numbers, stands in for a GPU. Afterwards `left_pad` in `module`,
    where `write` finds it, gives the prompts padded on the CPU, from where `write` has to carry them over.
    """
    expected, padded = write(), left_pad(prompts)
    monkeypatch.setattr(module, "left_pad", lambda prompts: padded)
    with torch.device("meta"):
        assert write() == expected


def keys_and_values(attention: nn.Module, x: Tensor) -> Prefix:
    """What an attention layer makes of its input: keys and values, (B, H, T, D) each, by plain slicing."""
    B, T, C = x.shape
    _, k, v = attention.qkv(x).chunk(3, dim=-1)
    return Prefix(*(part.view(B, T, attention.n_head, -1).transpose(1, 2) for part in (k, v)))


def record_drops(monkeypatch, run: object, *modules: object) -> list[tuple[float, bool]]:
    """What `run()` asks `drop` for in these modules, (p, training) of each call; nothing is dropped."""
    seen = []
    for module in modules:
        monkeypatch.setattr(module, "drop", lambda x, p, training: seen.append((p, training)) or x)
    run()
    return seen


def spreads(model: nn.Module) -> dict[str, float]:
    """The standard deviation of each matrix; of a stacked one, of each of its maps, by the number behind its name."""
    found = {}
    for name, p in model.named_parameters():
        if p.dim() == 2:
            parts = p.chunk(3) if name.endswith("qkv.weight") else [p]
            found |= {f"{name}{i if len(parts) > 1 else ''}": part.std().item() for i, part in enumerate(parts)}
    return found


def record_keys_and_values(attentions: list[nn.Module], run: object) -> list[Prefix]:
    """The keys and values of each self-attention layer while `run()` runs."""
    found, hooks = [], []
    for attention in attentions:
        hook = attention.register_forward_pre_hook(lambda module, args: found.append(keys_and_values(module, args[0])))
        hooks.append(hook)
    run()
    for hook in hooks:
        hook.remove()
    return found
