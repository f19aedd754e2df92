"""Published models in folders, as lesson 15 uses them: asked, given a prefix, tuned on ten lines."""

import pytest
import torch

from minitransformer.course.own.base import FolderTokenizer
from minitransformer.course.real.folders import P, ten_lines
from minitransformer.errors import UserError
from tests.parity.test_models import randomise

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.parity

WORDS = "the a cat dog sat ran on mat road good bad was it 好 猫".split()
ANIMALS, DEEDS, PLACES = ("cat", "dog"), ("sat", "ran"), ("mat", "road")
LINES = [f"the {animal} {deed} on the {place}" for animal in ANIMALS for deed in DEEDS for place in PLACES]


def save_tokenizer(folder, special):
    vocabulary = {word: i for i, word in enumerate([*special, "[UNK]", *WORDS])}
    one = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    one.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    one.add_special_tokens(special)
    one.enable_padding(length=12)  # as the tokenizer.json of all-MiniLM-L6-v2 does
    one.enable_truncation(3)
    one.save(str(folder / "tokenizer.json"))
    return len(vocabulary)


def gpt2(folder):
    n = save_tokenizer(folder, ["<|endoftext|>"])
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=n, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    )


def bert(folder):
    n = save_tokenizer(folder, ["[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    return transformers.BertModel(transformers.BertConfig(vocab_size=n, max_position_embeddings=32, **sizes))


def bart(folder):
    n = save_tokenizer(folder, ["<s>", "<pad>", "</s>"])
    sizes = {f"{side}_{what}": size for side in ("encoder", "decoder") for what, size in SIZES.items()}
    return transformers.BartForConditionalGeneration(
        transformers.BartConfig(vocab_size=n, max_position_embeddings=32, d_model=16, forced_eos_token_id=None, **sizes)
    )


SIZES = {"layers": 2, "attention_heads": 2, "ffn_dim": 32}
ROWS = {
    "completion": [{"prompt": line[:7], "completion": line[8:]} for line in LINES],
    "classification": [{"text": line, "label": "sat" if "sat" in line else "ran"} for line in LINES],
    "translation": [{"source": line, "target": "好 猫" if "cat" in line else "好"} for line in LINES],
}


@pytest.mark.parametrize("make, task", [(gpt2, "completion"), (bert, "classification"), (bart, "translation")])
def test_a_folder_is_asked_given_a_prefix_and_tuned(make, task, tmp_path):
    torch.manual_seed(0)
    theirs = randomise(make(tmp_path), 0, 0.3).eval()
    theirs.save_pretrained(tmp_path)
    found = ten_lines(task, str(tmp_path), ROWS[task], steps=60, lr=0.1, longest=6)
    unused = 2 * 2 * 16 if task == "translation" else 0  # two rows at the start of BART's tables of positions
    assert found.parameters == sum(p.numel() for p in theirs.parameters()) - unused
    n_layer_with_prefix = 2 if task != "translation" else 6  # encoder, decoder, and across
    assert found.trained == P * n_layer_with_prefix * 2 * 16
    assert found.with_prefix != found.untouched and found.tuned < 0.8 * found.with_prefix
    if task == "completion":
        assert found.untouched == pytest.approx(loss_of(theirs, tmp_path), abs=1e-4)


@torch.no_grad()
def loss_of(theirs, folder):
    """The mean loss of every completion and the end, by transformers, one line at a time."""
    words = FolderTokenizer(folder)
    total = count = 0
    for row in ROWS["completion"]:
        x, y = words.encode_batch([row["prompt"], " " + row["completion"]])
        ids = torch.tensor([[words.eot_id, *x, *y, words.eot_id]])
        labels = ids.clone()
        labels[:, : 1 + len(x)] = -100
        total += theirs(ids, labels=labels).loss.item() * (len(y) + 1)
        count += len(y) + 1
    return total / count


def test_what_a_tokenizer_file_says_of_padding_and_cutting_is_left_to_the_task(tmp_path):
    bert(tmp_path)
    words = FolderTokenizer(tmp_path)
    assert [len(ids) for ids in words.encode_batch(["the cat", "the cat sat on the mat"])] == [2, 6]


def test_a_folder_that_is_not_there_is_said():
    with pytest.raises(UserError, match="there is no folder of that name"):
        ten_lines("completion", "no-such-folder", ROWS["completion"])


def test_a_special_token_that_a_text_spells_out_is_text(tmp_path):
    """It would end the text, or stand for a word that was hidden."""
    bert(tmp_path)
    words = FolderTokenizer(tmp_path)
    (ids,) = words.encode_batch(["the cat [SEP] sat [MASK]"])
    assert words.sep_id not in ids and ids[:2] == words.encode_batch(["the cat"])[0]
