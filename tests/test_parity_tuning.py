"""Our prefix and prompt against the peft library: the same numbers on the same base give the same logits."""

import pytest
import torch

from minitransformer.pretrained import from_transformers
from minitransformer.tuning import PrefixTuning, PromptTuning, attached
from tests.helpers import assert_close, keep_of, random_ids, randomise

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytestmark = pytest.mark.parity

V, L, H, C, P, T = 60, 2, 4, 16, 3, 7
LENGTHS = [3, 7, 5]


def theirs_and_ours(kind, **more):
    """peft's model and ours on one tiny random GPT-2; the tuned numbers of both are still different."""
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=32, n_layer=L, n_head=H, n_embd=C, n_inner=40, bos_token_id=0, eos_token_id=3
    )
    base = randomise(transformers.GPT2LMHeadModel(config))
    ours = from_transformers(base.state_dict(), config)
    settings = {"num_virtual_tokens": P, "token_dim": C, "num_layers": L, "num_attention_heads": H, **more}
    tuned = peft.get_peft_model(base, kind(task_type="CAUSAL_LM", num_transformer_submodules=1, **settings))
    return tuned.eval(), ours


def their_logits(tuned, ids, keep):
    """With the positions given, to which peft adds P: left to itself, it counts the padding too (peft#1093)."""
    mask = torch.ones_like(ids) if keep is None else keep.long()
    return tuned(ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_a_prefix_in_pefts_layout_gives_pefts_logits(padded):
    tuned, ours = theirs_and_ours(peft.PrefixTuningConfig)
    table = tuned.prompt_encoder.default.embedding.weight  # (P, 2·L·C)
    table.normal_()
    ids, keep = random_ids(3, T, vocab_size=V), keep_of(LENGTHS, T, left=True) if padded else None
    real = torch.ones(3, T, dtype=torch.bool) if keep is None else keep
    with attached(ours, method := PrefixTuning(P)):
        assert method.tables["prefix"].free.shape == table.shape
        method.tables["prefix"].free.copy_(table)
        actual = ours(ids, keep=keep)
    assert_close(actual[real], their_logits(tuned, ids, keep)[real], "block 2l is K of layer l, 2l+1 its V")


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_a_prompt_gives_pefts_logits_behind_the_prompt(padded):
    tuned, ours = theirs_and_ours(peft.PromptTuningConfig)
    table = tuned.prompt_encoder.default.embedding.weight  # (P, C)
    table.normal_()
    ids, keep = random_ids(3, T, vocab_size=V), keep_of(LENGTHS, T, left=True) if padded else None
    real = torch.ones(3, T, dtype=torch.bool) if keep is None else keep
    mask = real.long()
    # Prompt tuning in peft drops the positions it is given, so that its base is called with them directly.
    words = torch.cat([tuned.get_prompt(3), tuned.word_embeddings(ids)], dim=1)
    positions = torch.cat([torch.arange(P).expand(3, -1), P + (mask.cumsum(1) - 1).clamp(min=0)], dim=1)
    whole = torch.cat([torch.ones(3, P, dtype=torch.long), mask], dim=1)
    expected = tuned.base_model(inputs_embeds=words, attention_mask=whole, position_ids=positions).logits[:, P:]
    if not padded:
        assert_close(tuned(ids, attention_mask=mask).logits[:, P:], expected, "peft itself, where nothing is padded")
    with attached(ours, method := PromptTuning(P)):
        method.free.copy_(table)
        actual = ours(ids, keep=keep)
    assert_close(actual[real], expected[real], "the prompt's outputs are cut off: T logits come back")
