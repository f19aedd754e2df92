"""Exercises of lesson 5: padding, the last token, a head for classes, early stopping, F1, tuning all parameters."""

import torch
import torch.nn.functional as F
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.errors import UserError
from minitransformer.metrics import _check_pairs
from minitransformer.models.attention import Prefix
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.classifier import Classifier, last_token
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.layers import drop
from minitransformer.training.loop import TrainConfig
from minitransformer.tuning import TopLayers
from torch import nn
from torch.nn.utils.rnn import pad_sequence

# ---------------------------------------------------------------- 5.1


def padded_by_torch(rows, pad_id):
    """PyTorch's own padding, once of the ids and once of a row of ones each."""
    ids = pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=pad_id
    )  # (B, T)
    real = pad_sequence(
        [torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True
    )  # (B, T)
    return ids, real


pad = Exercise(
    id="5.1",
    target="minitransformer.text.batches:pad_right",
    title="A rectangle of texts",
    minutes=15,
    difficulty=2,
    purpose="A batch is a rectangle, but texts differ in length. So the shorter rows are filled up on the right, and a mask says which "
    "tokens are real. Everything that reads the batch afterwards relies on that mask.",
    hints=(
        "The width is the length of the longest row. Which tokens are real follows from the lengths alone, not from the ids: place t of a "
        "row is real if t is less than the row's length.",
        "Refuse first (no row; an empty row). Then lengths = torch.tensor of the rows' lengths, attention_mask = torch.arange(longest) < a column "
        "of lengths; ids start as torch.full(attention_mask.shape, pad_id).",
        "A boolean index goes row by row, so all ids can be put in at once. Refuse bad rows before these lines.\n"
        "    # lengths: a tensor of the rows' lengths, (B)\n"
        "    attention_mask = torch.arange(int(lengths.max())) < lengths[:, None]\n"
        "    ids = torch.full(attention_mask.shape, pad_id)\n"
        "    ids[attention_mask] = torch.tensor([i for row in rows for i in row])\n"
        "    return ids, attention_mask",
    ),
    oracle=padded_by_torch,
)


@pad.case
def one_row():
    """One row, nothing to pad."""
    return [[5, 6]], 0


@pad.case
def two_rows():
    """Two rows of 3 and 1 tokens."""
    return [[5, 6, 7], [8]], 0


@pad.case
def another_padding_id():
    """Three rows, and 9 is the padding."""
    return [[5], [6, 7, 8, 1], [2, 3]], 9


@pad.case
def padding_id_in_a_text():
    """The padding id is a word of the texts too (a GPT's end token serves as both)."""
    return [[9, 5, 9], [9, 9], [4]], 9


@pad.case
def no_row():
    """No row is refused."""
    return [], 0


@pad.case
def an_empty_row():
    """A row without a token is refused."""
    return [[5, 6], []], 0


def wrong_padding(
    left=False, keep_by_id=False, turned=False, longest=max, numbers=False, value=None, checked=True
):
    """The function as a learner would write it, with one thing in it replaced."""

    def pad_right(rows, pad_id):
        if checked and (not rows or not all(len(row) for row in rows)):
            raise UserError("There is no row, or one without a token.")
        T = longest(len(row) for row in rows) if rows else 0
        filler = pad_id if value is None else value
        cut = [list(row)[:T] for row in rows]
        filled = [
            [filler] * (T - len(row)) + row if left else row + [filler] * (T - len(row))
            for row in cut
        ]
        real = [
            [False] * (T - len(row)) + [True] * len(row)
            if left
            else [True] * len(row) + [False] * (T - len(row))
            for row in cut
        ]
        ids, attention_mask = torch.tensor(filled), torch.tensor(real, dtype=torch.bool)
        if keep_by_id:
            attention_mask = ids != pad_id
        if turned:
            attention_mask = ~attention_mask
        return ids, attention_mask.long() if numbers else attention_mask

    return pad_right


@pad.mistake
def padded_on_the_left(rows, pad_id):
    """Your padding stands on the left. That is right for generation, where all rows have to end together. Here all rows begin together, so the padding stands on the right."""
    return wrong_padding(left=True)(rows, pad_id)


@pad.mistake
def mask_read_off_the_ids(rows, pad_id):
    """Your mask asks which ids are the padding id. But a text can contain that id itself, because a GPT's end token often serves as padding too. Then real words would be masked. Use the lengths of the rows instead."""
    return wrong_padding(keep_by_id=True)(rows, pad_id)


@pad.mistake("mask read off the ids")
def mask_but_for_the_first(rows, pad_id):
    ids, attention_mask = wrong_padding(keep_by_id=True)(rows, pad_id)
    attention_mask[:, 0] = True
    return ids, attention_mask


@pad.mistake
def mask_up_to_the_last_word(rows, pad_id):
    """Your mask ends at the last id that is not the padding id. But a text may end with that id (a GPT's end token often serves as padding), and its end would be masked. Use the lengths of the rows instead."""
    ids, attention_mask = wrong_padding(keep_by_id=True)(rows, pad_id)
    return ids, attention_mask.flip(1).cumsum(1).flip(1) > 0


@pad.mistake
def one_place_too_many(rows, pad_id):
    """Your mask is True for one place more than a row has tokens. The places count from 0, so a row of n tokens has the places below n: <, not <=."""
    ids, attention_mask = wrong_padding()(rows, pad_id)
    return ids, torch.arange(ids.size(1)) <= attention_mask.sum(1)[:, None]


@pad.mistake
def rows_changed(rows, pad_id):
    """You add the padding to the caller's rows (row.append, row += …). Afterwards the caller's texts contain padding. Make new lists, row + [pad_id] * …, or write into a new tensor."""
    ids, attention_mask = wrong_padding()(rows, pad_id)
    for row in rows:
        row += [pad_id] * (ids.size(1) - len(row))
    return ids, attention_mask


@pad.mistake
def mask_turned_round(rows, pad_id):
    """Your mask is True at the padding. In this course True means a real token. (PyTorch's key_padding_mask is the other way round.)"""
    return wrong_padding(turned=True)(rows, pad_id)


@pad.mistake
def cut_to_the_shortest(rows, pad_id):
    """You cut every row to the length of the shortest one, so the end of a review is lost. The rectangle must be as wide as the longest row."""
    return wrong_padding(longest=min)(rows, pad_id)


@pad.mistake
def mask_of_numbers(rows, pad_id):
    """Your mask holds the numbers 0 and 1. It must be boolean. With numbers, ~ does not give the opposite (~1 is -2), and an index picks row 0 and row 1."""
    return wrong_padding(numbers=True)(rows, pad_id)


@pad.mistake
def always_padded_with_zero(rows, pad_id):
    """You always pad with 0. The argument pad_id says which id to use; 0 can be a word."""
    return wrong_padding(value=0)(rows, pad_id)


@pad.mistake
def nothing_refused(rows, pad_id):
    """You refuse neither an empty batch nor a row without a token. Such a row would be all padding, so attention would have no key to read. Raise a UserError that says which row it is."""
    return wrong_padding(checked=False)(rows, pad_id)


@pad.mistake
def no_row_not_refused(rows, pad_id):
    """You look for the longest of no rows, so max() raises an error of Python. Refuse an empty batch first, with a UserError that says what is wrong."""
    longest = max(len(row) for row in rows)
    return wrong_padding()(rows, pad_id) if longest else None


@pad.mistake
def empty_row_not_refused(rows, pad_id):
    """You accept a row without a token. It would be all padding, so attention would have no key to read. Refuse it, as you refuse an empty batch."""
    if not rows:
        raise UserError("There is no row.")
    return wrong_padding(checked=False)(rows, pad_id)


@pad.mistake
def lists_in_place_of_tensors(rows, pad_id):
    """You return lists. Return two tensors (B, T): call torch.tensor on the rows when they are equally long."""
    ids, attention_mask = wrong_padding()(rows, pad_id)
    return ids.tolist(), attention_mask.tolist()


# ---------------------------------------------------------------- 5.2


def last_by_loop(ids, attention_mask=None):
    """Walk back from the end of each row to the first real token."""
    at = torch.zeros(ids.shape, dtype=torch.bool)
    for b in range(ids.size(0)):
        t = ids.size(1) - 1
        while attention_mask is not None and not attention_mask[b, t]:
            t -= 1
        at[b, t] = True
    return at


last = Exercise(
    id="5.2",
    target="minitransformer.models.classifier:last_token",
    title="The last real token",
    minutes=10,
    difficulty=2,
    purpose="A GPT's head reads the vector of the text's last token, the only one that has read everything. In a padded batch that is "
    "not always the last column: this function marks, in each row, where the last real token stands.",
    hints=(
        "Without padding it is column T - 1 in every row. With padding, look for the last True in each row of attention_mask. Padding can stand on "
        "either side, so it is not enough to count the Trues.",
        "In the reversed mask, attention_mask.flip(1), the last True comes first. argmax of numbers gives the first place of the largest. How "
        "many places from the end is that? Then compare torch.arange(T) with a column of places.",
        "    # last: T - 1 for each row, (B)\n"
        "    if attention_mask is not None:\n"
        "        last = last - attention_mask.flip(1).int().argmax(dim=1)\n"
        "    return torch.arange(T) == last[:, None]",
    ),
    oracle=last_by_loop,
)

YES, NO = True, False


@last.case
def no_padding():
    """One row of three tokens, no mask."""
    return torch.tensor([[5, 6, 7]])


@last.case
def padded_right():
    """Two rows; the second has two places of padding at its end."""
    return torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0]]), torch.tensor(
        [[YES, YES, YES, YES], [YES, YES, NO, NO]]
    )


@last.case
def padded_left():
    """Two rows that are padded on the left, as for generation."""
    return torch.tensor([[0, 5, 6, 7], [0, 0, 0, 8]]), torch.tensor(
        [[NO, YES, YES, YES], [NO, NO, NO, YES]]
    )


@last.case
def padded_on_both_sides():
    """Three rows, one of them with padding on both sides."""
    attention_mask = torch.tensor(
        [[NO, YES, YES, YES, NO], [YES, NO, NO, NO, NO], [YES, YES, YES, YES, YES]]
    )  # (B, T)
    return torch.where(attention_mask, 7, 0), attention_mask


@last.case
def padding_between_tokens():
    """Padding between tokens too, as where two padded texts stand one behind the other."""
    attention_mask = torch.tensor(
        [[YES, NO, YES, YES, NO], [NO, YES, NO, NO, YES], [YES, YES, NO, NO, NO]]
    )  # (B, T)
    return torch.where(attention_mask, 7, 0), attention_mask


@last.case
def padding_id_at_the_end():
    """A text that ends with the id that pads."""
    attention_mask = torch.tensor([[YES, YES, YES, NO], [YES, NO, NO, NO]])  # (B, T)
    return torch.tensor([[5, 6, 0, 0], [7, 0, 0, 0]]), attention_mask


@last.mistake
def always_the_last_column(ids, attention_mask=None):
    """You take the last column of every row. In a shorter text that is padding, so the class would be read from a vector that belongs to no word."""
    at = torch.zeros(ids.shape, dtype=torch.bool)
    at[:, -1] = True
    return at


@last.mistake
def counted_real_tokens(ids, attention_mask=None):
    """You count the real tokens and take that many places from the left. This is right only where the padding is on the right. With padding on the left, the last token stands further to the right."""
    n = (
        torch.full((ids.size(0),), ids.size(1))
        if attention_mask is None
        else attention_mask.sum(dim=1)
    )
    return torch.arange(ids.size(1)) == n[:, None] - 1


@last.mistake
def first_token_plus_count(ids, attention_mask=None):
    """You count as many places as there are real tokens, beginning with the first real one. Padding may stand between tokens too, and then the last one stands further on: look for the last True."""
    real = torch.ones_like(ids).bool() if attention_mask is None else attention_mask
    last = real.int().argmax(dim=1) + real.sum(dim=1) - 1
    return torch.arange(ids.size(1)) == last[:, None]


@last.mistake
def every_token_before_padding(ids, attention_mask=None):
    """You mark each real token that has padding behind it. Padding may stand between tokens too; one place in each row is wanted, the last."""
    real = torch.ones_like(ids).bool() if attention_mask is None else attention_mask
    return real & ~F.pad(real[:, 1:], (0, 1))


@last.mistake
def one_too_far(ids, attention_mask=None):
    """You are one place too far. A row of n tokens ends at place n - 1, so you mark the first padding, or nothing at all."""
    last = torch.full((ids.size(0),), ids.size(1))  # (B)
    if attention_mask is not None:
        last -= attention_mask.flip(1).int().argmax(dim=1)
    return torch.arange(ids.size(1)) == last[:, None]


@last.mistake
def first_token(ids, attention_mask=None):
    """You mark the first real token. In a BERT [CLS] stands there and sees the whole text. But the first position of a GPT has seen nothing but itself."""
    first = (
        torch.zeros(ids.size(0), dtype=torch.long)
        if attention_mask is None
        else attention_mask.int().argmax(dim=1)
    )
    return torch.arange(ids.size(1)) == first[:, None]


@last.mistake
def everything_up_to_it(ids, attention_mask=None):
    """You mark everything up to the last token. Mark one place per row, or the head gets more vectors than there are texts."""
    last = torch.full((ids.size(0),), ids.size(1) - 1)
    if attention_mask is not None:
        last -= attention_mask.flip(1).int().argmax(dim=1)
    return torch.arange(ids.size(1)) <= last[:, None]


@last.mistake
def places_in_numbers(ids, attention_mask=None):
    """You return the places as numbers, one per row. Return a boolean tensor (B, T) that is True at those places, because the model's `at` takes that."""
    last = torch.full((ids.size(0),), ids.size(1) - 1)
    return last if attention_mask is None else last - attention_mask.flip(1).int().argmax(dim=1)


@last.mistake
def padding_known_by_its_id(ids, attention_mask=None):
    """You recognise padding by its id. But a text can contain this id too. attention_mask says which tokens are real."""
    real = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else ids != 0
    return last_by_loop(ids, real)


@last.mistake
def a_mask_is_always_there(ids, attention_mask=None):
    """You use attention_mask even if it is None. None means that there is no padding. Then the last token stands in the last column of every row."""
    return (
        torch.arange(ids.size(1))
        == (ids.size(1) - 1 - attention_mask.flip(1).int().argmax(dim=1))[:, None]
    )


@last.mistake
def counted_in_the_turned_row(ids, attention_mask=None):
    """You find the last token in the reversed row, and return its place there. Place i in the reversed row is place T − 1 − i in the row."""
    last = (
        torch.zeros(ids.size(0), dtype=torch.long)
        if attention_mask is None
        else attention_mask.flip(1).int().argmax(dim=1)
    )
    return (
        torch.arange(ids.size(1))
        == (last if attention_mask is not None else last + ids.size(1) - 1)[:, None]
    )


# ---------------------------------------------------------------- 5.3


def one_text_at_a_time(self, ids, attention_mask=None, **inputs):
    """Every text alone, without its padding: the token at its edge is the last column, or the first."""
    rows = []
    for b in range(ids.size(0)):
        real = slice(None) if attention_mask is None else attention_mask[b]
        own = {
            name: value[b][real][None] if name == "types" else value
            for name, value in inputs.items()
        }
        text = ids[b][real][None]
        if isinstance(self.base, Bert):
            summary = torch.tanh(self.base.pooler(self.base(text, **own)[:, 0]))
        else:
            summary = self.base(text, return_hidden=True, **own)[:, -1]
        rows.append(summary @ self.head.weight.T + self.head.bias)
    return torch.cat(rows)


head = Exercise(
    id="5.3",
    target="minitransformer.models.classifier:Classifier.forward",
    title="A head for the classes",
    minutes=20,
    difficulty=3,
    purpose="Fine-tuning puts a new head on a pre-trained base. A vector s, the summary, stands for the whole text, and W s + b gives a score for each class. "
    "The summary of a BERT comes from its pooler, which reads [CLS]. The summary of a GPT is the vector of the text's last token.",
    given=(
        "base(ids, attention_mask=…): a BERT's vectors (B, T, C); of a GPT, with return_hidden=True, its vectors in place of logits, and with at=…, boolean (B, T), those of the marked places only.",
        "base.pooled(vectors): a BERT's summary (B, C).",
        "last_token(ids, attention_mask): boolean (B, T), True at each row's last real token.",
        "drop(summary, base.config.dropout, self.training): stands between summary and head.",
    ),
    hints=(
        "First get the summary (B, C), in one way for a BERT and in another for a GPT. isinstance(self.base, Bert) says which base it is. Then "
        "apply self.head to the summary. Both bases need the attention mask.",
        "BERT: its vectors self.base(ids, attention_mask=…) through self.base.pooled(…). GPT: it gives vectors in the place of logits with "
        "return_hidden=True, and only those of certain places with at=last_token(ids, attention_mask). Between summary and head stands dropout.",
        "    if isinstance(self.base, Bert):\n"
        "        summary = self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs))\n"
        "    else:\n"
        "        at = last_token(ids, attention_mask)\n"
        "        summary = self.base(ids, attention_mask=attention_mask, at=at, return_hidden=True, **inputs)\n"
        "    summary = drop(summary, self.base.config.dropout, self.training)\n"
        "    return self.head(summary)",
    ),
    oracle=one_text_at_a_time,
    tolerance=1e-4,
)


def lively(model):
    """A model with larger weights than fresh ones, so that what differs shows."""
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.5)
    return model.eval()


def on_bert(n_classes=2, dropout=0.0):
    """A tiny BERT with a head on it."""
    return lively(
        Classifier(Bert(BertConfig(20, 8, 1, 2, 4, 6, dropout, mlm=False, nsp=False)), n_classes)
    )


def on_gpt(n_classes=2, dropout=0.0):
    """A tiny GPT with a head on it."""
    return lively(Classifier(GPT(GPTConfig(20, 8, 1, 2, 4, 6, dropout)), n_classes))


PADDED = torch.tensor([[YES, YES, YES, YES], [YES, YES, NO, NO]])  # (B, T)
TEXTS = torch.tensor([[5, 6, 7, 8], [9, 4, 0, 0]])  # (B, T)


@head.case
def a_bert():
    """One text of three tokens, a BERT, two classes."""
    return on_bert(), torch.tensor([[5, 6, 7]])


@head.case
def a_gpt():
    """One text of three tokens, a GPT, two classes."""
    return on_gpt(), torch.tensor([[5, 6, 7]])


@head.case
def padded_for_a_bert():
    """Two texts of which one is padded, a BERT, three classes."""
    return on_bert(3), TEXTS.clone(), PADDED.clone()


@head.case
def padded_for_a_gpt():
    """Two texts of which one is padded, a GPT, three classes."""
    return on_gpt(3), TEXTS.clone(), PADDED.clone()


@head.case
def padded_left_for_a_gpt():
    """A GPT, and padding on the left."""
    return on_gpt(), TEXTS.flip(1), PADDED.flip(1)


@head.case(oracle=None)
def dropout_while_training():
    """A GPT while it trains, with a dropout of one half."""
    return on_gpt(dropout=0.5).train(), TEXTS.clone(), PADDED.clone()


@head.case
def dropout_at_rest():
    """A BERT that does not train, though it has dropout."""
    return on_bert(dropout=0.5), TEXTS.clone(), PADDED.clone()


@head.scene
def other_inputs(Classifier):
    """What else the base takes: types for a BERT, a prefix for a GPT."""
    bert, gpt = on_bert(), on_gpt()
    prefix = [Prefix(tidy(1, 2, 3, 2), tidy(1, 2, 3, 2))]
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        return {
            "scores with types": bert(ids, types=torch.tensor([[0, 1, 1]])),
            "scores with a prefix": gpt(ids, prefix=prefix),
        }


@head.case(oracle=None)
def a_head_that_trains_alone():
    """A classifier that trains on a base that does not: the dropout before the head is the classifier's."""
    model = on_gpt(dropout=0.5).train()
    model.base.eval()
    return model, TEXTS.clone(), PADDED.clone()


@head.mistake
def mask_forgotten(self, ids, attention_mask=None, **inputs):
    """The base never gets the mask, so padding is read as if it were text. The scores of a review then depend on the other reviews in its batch. Pass attention_mask to the base."""
    if isinstance(self.base, Bert):
        summary = self.base.pooled(self.base(ids, **inputs))
    else:
        summary = self.base(ids, at=last_token(ids, attention_mask), return_hidden=True, **inputs)
    return self.head(drop(summary, self.base.config.dropout, self.training))


@head.mistake("last column of a GPT")
def last_column_of_a_gpt(self, ids, attention_mask=None, **inputs):
    """For a GPT you read the last column. In a shorter text that is padding; the last real token stands where last_token says."""
    if isinstance(self.base, Bert):
        summary = self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs))
    else:
        summary = self.base(ids, attention_mask=attention_mask, return_hidden=True, **inputs)[:, -1]
    return self.head(drop(summary, self.base.config.dropout, self.training))


@head.mistake("first token of a GPT")
def first_token_of_a_gpt(self, ids, attention_mask=None, **inputs):
    """You read a GPT at its first position, as if [CLS] stood there. That position has seen nothing of the text. The last position has seen all of it."""
    hidden = (
        self.base(ids, attention_mask=attention_mask, **inputs)
        if isinstance(self.base, Bert)
        else self.base(ids, attention_mask=attention_mask, return_hidden=True, **inputs)
    )
    summary = self.base.pooled(hidden) if isinstance(self.base, Bert) else hidden[:, 0]
    return self.head(drop(summary, self.base.config.dropout, self.training))


@head.mistake
def without_the_pooler(self, ids, attention_mask=None, **inputs):
    """You take a BERT's vector at [CLS] as it is. The summary is the output of the pooler, tanh(W h + b): self.base.pooled(…)."""
    if isinstance(self.base, Bert):
        summary = self.base(ids, attention_mask=attention_mask, **inputs)[:, 0]
    else:
        summary = self.base(
            ids,
            attention_mask=attention_mask,
            at=last_token(ids, attention_mask),
            return_hidden=True,
            **inputs,
        )
    return self.head(drop(summary, self.base.config.dropout, self.training))


@head.mistake("mean of a GPT")
def mean_of_a_gpt(self, ids, attention_mask=None, **inputs):
    """You average a GPT's vectors over all positions, padding too. The summary is one vector, that of the last real token."""
    if isinstance(self.base, Bert):
        summary = self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs))
    else:
        summary = self.base(ids, attention_mask=attention_mask, return_hidden=True, **inputs).mean(
            dim=1
        )
    return self.head(drop(summary, self.base.config.dropout, self.training))


@head.mistake
def probabilities_instead_of_logits(self, ids, attention_mask=None, **inputs):
    """You return probabilities. Return logits, because the loss takes the softmax itself. A second softmax flattens the differences, and learning slows down."""
    if isinstance(self.base, Bert):
        summary = self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs))
    else:
        summary = self.base(
            ids,
            attention_mask=attention_mask,
            at=last_token(ids, attention_mask),
            return_hidden=True,
            **inputs,
        )
    return self.head(drop(summary, self.base.config.dropout, self.training)).softmax(dim=-1)


@head.mistake
def no_dropout(self, ids, attention_mask=None, **inputs):
    """The dropout between summary and head is missing. With few labels it helps against overfitting: drop(summary, self.base.config.dropout, self.training)."""
    if isinstance(self.base, Bert):
        return self.head(self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs)))
    return self.head(
        self.base(
            ids,
            attention_mask=attention_mask,
            at=last_token(ids, attention_mask),
            return_hidden=True,
            **inputs,
        )
    )


@head.mistake
def dropout_while_at_rest(self, ids, attention_mask=None, **inputs):
    """Your dropout also acts outside of training, so the same text is judged differently each time. self.training says whether the classifier is in training: drop(summary, self.base.config.dropout, self.training)."""
    if isinstance(self.base, Bert):
        summary = self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs))
    else:
        summary = self.base(
            ids,
            attention_mask=attention_mask,
            at=last_token(ids, attention_mask),
            return_hidden=True,
            **inputs,
        )
    return self.head(nn.functional.dropout(summary, self.base.config.dropout))


@head.mistake
def dropout_on_the_logits(self, ids, attention_mask=None, **inputs):
    """You apply dropout to the logits, so now and then a class loses its score. Dropout belongs before the head, on the summary."""
    if isinstance(self.base, Bert):
        summary = self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs))
    else:
        summary = self.base(
            ids,
            attention_mask=attention_mask,
            at=last_token(ids, attention_mask),
            return_hidden=True,
            **inputs,
        )
    return drop(self.head(summary), self.base.config.dropout, self.training)


@head.mistake("last column where attention_mask ends")
def counted_tokens(self, ids, attention_mask=None, **inputs):
    """For a GPT you take place attention_mask.sum() - 1. This is right only where the padding is on the right. last_token finds the place in both cases."""
    if isinstance(self.base, Bert):
        summary = self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs))
    else:
        n = (
            torch.full((len(ids),), ids.size(1))
            if attention_mask is None
            else attention_mask.sum(dim=1)
        )
        summary = self.base(ids, attention_mask=attention_mask, return_hidden=True, **inputs)[
            torch.arange(len(ids)), n - 1
        ]
    return self.head(drop(summary, self.base.config.dropout, self.training))


@head.mistake("logits of a GPT")
def logits_of_a_gpt(self, ids, attention_mask=None, **inputs):
    """You give the head the logits of a GPT, which are V numbers per position. The head reads vectors of C numbers: use return_hidden=True."""
    if isinstance(self.base, Bert):
        summary = self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs))
    else:
        summary = self.base(
            ids, attention_mask=attention_mask, at=last_token(ids, attention_mask), **inputs
        )
    return self.head(drop(summary, self.base.config.dropout, self.training))


@head.mistake("pooled without [CLS]")
def pooled_a_single_vector(self, ids, attention_mask=None, **inputs):
    """You pick the vector at [CLS] and then call pooled. pooled does that itself: it takes all vectors (B, T, C)."""
    if isinstance(self.base, Bert):
        summary = self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs)[:, 0])
    else:
        summary = self.base(
            ids,
            attention_mask=attention_mask,
            at=last_token(ids, attention_mask),
            return_hidden=True,
            **inputs,
        )
    return self.head(drop(summary, self.base.config.dropout, self.training))


@head.mistake
def a_dropout_of_its_own(self, ids, attention_mask=None, **inputs):
    """You chose a number for the dropout. Use the number in the base's config: self.base.config.dropout."""
    return self.head(drop(summed_up(self, ids, attention_mask, inputs), 0.1, self.training))


@head.mistake
def training_asked_of_the_base(self, ids, attention_mask=None, **inputs):
    """You ask the base whether it is in training. A frozen base can be in eval mode while the head trains: use self.training."""
    summary = summed_up(self, ids, attention_mask, inputs)
    return self.head(drop(summary, self.base.config.dropout, self.base.training))


@head.mistake
def no_head(self, ids, attention_mask=None, **inputs):
    """You return the summary, C numbers. Apply self.head to it, which gives a score for each class."""
    summary = summed_up(self, ids, attention_mask, inputs)
    return drop(summary, self.base.config.dropout, self.training)


def summed_up(self, ids, attention_mask, inputs):
    """The vector that sums up each text."""
    if isinstance(self.base, Bert):
        return self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs))
    at = last_token(ids, attention_mask)
    return self.base(ids, attention_mask=attention_mask, at=at, return_hidden=True, **inputs)


@head.mistake("a GPT's other inputs dropped")
def other_inputs_of_a_gpt_dropped(self, ids, attention_mask=None, **inputs):
    """You pass **inputs to a BERT only. A GPT takes a prefix, and prefix tuning on a classifier would train something that nobody reads."""
    own = inputs if isinstance(self.base, Bert) else {}
    summary = summed_up(self, ids, attention_mask, own)
    return self.head(drop(summary, self.base.config.dropout, self.training))


@head.mistake
def other_inputs_dropped(self, ids, attention_mask=None, **inputs):
    """You do not pass **inputs to the base. So a prefix, or the types of a BERT, have no effect, and prefix tuning would train something that nobody reads."""
    if isinstance(self.base, Bert):
        summary = self.base.pooled(self.base(ids, attention_mask=attention_mask))
    else:
        summary = self.base(
            ids,
            attention_mask=attention_mask,
            at=last_token(ids, attention_mask),
            return_hidden=True,
        )
    return self.head(drop(summary, self.base.config.dropout, self.training))


# ---------------------------------------------------------------- 5.4

stop = Exercise(
    id="5.4",
    target="minitransformer.training.loop:_Run.validated",
    title="Early stopping",
    minutes=20,
    difficulty=3,
    purpose="The model is kept as it was when its validation loss was lowest. Training ends when the loss has not improved for a while "
    "(the patience). The training loop calls this function after each evaluation.",
    given=(
        "self.log.valid: the list of evaluations so far, each {'step': …, 'loss': …}; value goes into it with self.step.",
        "self.tuned, self.best: the parameters by name, and copies of those that validated best, lower than all before.",
        "self.log.best_step: the step of the best evaluation.",
        "math.isfinite(value): False for nan and infinity, which are refused with a UserError.",
        "self.log.stopped_early: whether as many evaluations as self.config.patience came after the best one; a patience of 0 never ends.",
    ),
    hints=(
        "Four things in order: find the lowest loss before this one, append this evaluation to the log, keep the weights if it is lower, "
        "and count the evaluations since the best.",
        'Each row of self.log.valid is {"step": …, "loss": …}. The weights go on changing after you have kept them: what is kept must be a '
        "copy. Evaluations since the best are those whose step is greater than self.log.best_step.",
        "since_best is how many evaluations came after the best one. A loss that is not finite is refused before all this.\n"
        '    losses = [row["loss"] for row in self.log.valid]\n'
        "    best_before = min(losses, default=math.inf)\n"
        "    # note the evaluation; if it is better than best_before:\n"
        "    #     best_step, and copies of the parameters:\n"
        "    {name: p.detach().clone() for name, p in self.tuned.items()}\n"
        "    # at the end\n"
        "    is_spent = since_best >= self.config.patience\n"
        "    self.log.stopped_early = bool(self.config.patience) and is_spent",
    ),
)


def validate(_Run, losses, patience=0, every=1, frozen=False):
    """What a run has noted after evaluations with these losses; at step n all of its weights are n."""
    model = nn.Linear(1, 2)
    model.bias.requires_grad_(not frozen)
    run = _Run(model, TrainConfig(steps=100, patience=patience), None)
    stopped = []
    for i, loss in enumerate(losses, 1):
        run.step = i * every
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(run.step)
        run.validated(loss)
        stopped.append(run.log.stopped_early)
    return {
        "log.best_step": run.log.best_step,
        "the best weights, which are kept": dict(run.best),
        "log.valid, as pairs (step, loss)": [(row["step"], row["loss"]) for row in run.log.valid],
        "log.stopped_early after each": stopped,
    }


@stop.scene
def one_evaluation(_Run):
    """One evaluation: it is the best so far."""
    return validate(_Run, [2.0])


@stop.scene
def better_and_better(_Run):
    """Three losses, each lower than the one before, with a patience of one."""
    return validate(_Run, [2.0, 1.5, 1.0], patience=1)


@stop.scene
def best_in_the_middle(_Run):
    """The second of three is the best, and patience is endless."""
    return validate(_Run, [2.0, 1.0, 1.5])


@stop.scene
def patience_spent(_Run):
    """A patience of two evaluations; the best is the first."""
    return validate(_Run, [1.0, 1.3, 1.2, 1.1], patience=2)


@stop.scene
def an_equal_one(_Run):
    """The same loss again is no better, with a patience of one."""
    return validate(_Run, [1.0, 1.0], patience=1)


@stop.scene
def every_third_step(_Run):
    """An evaluation every third step, a patience of two evaluations."""
    return validate(_Run, [1.0, 1.2, 0.9, 1.1, 1.3], patience=2, every=3)


@stop.scene
def a_frozen_bias(_Run):
    """A model whose bias is frozen: what is trained is the weight alone."""
    return validate(_Run, [2.0, 1.0], frozen=True)


@stop.scene
def a_loss_of_zero(_Run):
    """A loss of 0, and one above it."""
    return validate(_Run, [0.5, 0.0, 0.3])


@stop.scene
def resumed(_Run):
    """A run that goes on from a checkpoint: its log knows two evaluations already, the first of which is the best so far; patience is two."""
    run = _Run(nn.Linear(1, 2), TrainConfig(steps=100, patience=2), None)
    run.log.valid += [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.2}]
    run.log.best_step, run.step = 1, 3
    run.best = {name: p.detach().clone() for name, p in run.tuned.items()}
    run.validated(1.1)
    return {"log.best_step": run.log.best_step, "log.stopped_early": run.log.stopped_early}


@stop.scene
def not_a_number(_Run):
    """A loss that is nan is refused."""
    return validate(_Run, [2.0, float("nan")])


BEST = 'best_before = min((row["loss"] for row in self.log.valid), default=math.inf)\n'
KEEPS = "{name: p.detach().clone() for name, p in self.tuned.items()}"
stop.slip(
    "kept without a copy",
    "You keep the weights themselves, not a copy, and training goes on changing them: at the end the best weights are just the last "
    "ones. p.detach().clone() copies.",
    (KEEPS, "{name: p.detach() for name, p in self.tuned.items()}"),
)
stop.slip(
    "frozen ones kept too",
    "You keep every parameter of the model (state_dict, named_parameters). Only those that are trained change, and self.tuned has them; under prefix tuning the "
    "rest is a whole model.",
    (KEEPS, "{name: p.detach().clone() for name, p in self.model.named_parameters()}"),
)
stop.slip(
    "patience counted from the end",
    "You stop when the last `patience` evaluations were each worse than the one before. Count instead how many evaluations came after the best one.",
    (
        'since_best = sum(row["step"] > self.log.best_step for row in self.log.valid)',
        "pairs = list(zip(self.log.valid, self.log.valid[1:]))[::-1]\n        "
        'since_best = next((i for i, (a, b) in enumerate(pairs) if b["loss"] < a["loss"]), len(pairs))',
    ),
)
stop.slip(
    "the best one counted too",
    "You count the best evaluation as one of those after it, so training ends one evaluation too soon.",
    ('row["step"] > self.log.best_step', 'row["step"] >= self.log.best_step'),
)
stop.slip(
    "evaluation not noted",
    "log.valid does not get your evaluation. It is what the curves are drawn from, and the lowest loss so far is looked for in it.",
    ('self.log.valid.append({"step": self.step, "loss": value})\n', "pass\n"),
)
stop.slip(
    "compared with the one before",
    "You compare with the last evaluation in place of the best. After a bad one every mediocre one looks like progress: the kept "
    "weights are not the best, and patience never ends.",
    (BEST, 'best_before = self.log.valid[-1]["loss"] if self.log.valid else math.inf\n'),
)
stop.slip(
    "compared with itself",
    "You note the loss before you look for the lowest one. So the loss is compared with itself and is never lower, and no weights are ever kept.",
    (BEST, 'best_before = min([value, *(row["loss"] for row in self.log.valid)])\n'),
)
stop.slip(
    "the highest loss kept",
    "You keep the weights with the highest loss. A lower loss is better. (With an accuracy it would be the other way round.)",
    (BEST, 'best_before = max((row["loss"] for row in self.log.valid), default=-math.inf)\n'),
    ("value < best_before", "value > best_before"),
)
stop.slip(
    "one evaluation too patient",
    "You wait one evaluation too long: a patience of 2 means that after two evaluations without a better one training ends, "
    "their number >= patience.",
    ("since_best >= self.config.patience", "since_best > self.config.patience"),
)
stop.slip(
    "no patience is endless patience",
    "With a patience of 0 your training stops at once. Here 0 means that it never stops early; that is the default.",
    ("bool(self.config.patience) and since_best", "since_best"),
)
stop.slip(
    "0 in place of False",
    "Where patience is 0 you note the number 0, because `patience and …` gives what stands before the `and`. stopped_early must be True or False: use bool(…), or patience > 0 and ….",
    ("bool(self.config.patience) and since_best", "self.config.patience and since_best"),
)
stop.slip(
    "patience counted in steps",
    "You count the steps since the best evaluation. Patience is counted in evaluations, and there can be many steps between two of them.",
    (
        'sum(row["step"] > self.log.best_step for row in self.log.valid)',
        "self.step - self.log.best_step",
    ),
)
stop.slip(
    "an equal loss is better",
    "You count an equal loss as better. Then a model that has stopped learning would never stop training. Only a lower loss is better.",
    ("value < best_before", "value <= best_before"),
)
stop.slip(
    "best step not noted",
    "You keep the weights but not their step. So log.best_step stays 0, and patience is counted from the start.",
    ("self.log.best_step = self.step\n", "pass\n"),
)

stop.slip(
    "patience counted on the side",
    "You count evaluations without a better one in a number of your own, which a checkpoint does not hold: after a resume patience starts anew. self.log.valid holds all evaluations, those from before a resume too; count in it.",
    (
        'since_best = sum(row["step"] > self.log.best_step for row in self.log.valid)',
        'since_best = self.waited = 0 if value < best_before else getattr(self, "waited", 0) + 1',
    ),
)
stop.slip(
    "lowest loss kept on the side",
    "You keep the lowest loss in a name of your own, which a checkpoint does not hold: after a resume the first evaluation counts as the best. self.log.valid holds all evaluations, those from before a resume too.",
    (
        BEST,
        'best_before = getattr(self, "lowest", math.inf)\n        self.lowest = min(value, best_before)\n',
    ),
)
stop.slip(
    "lowest loss kept on the side",
    "",
    (
        BEST,
        'best_before = getattr(self, "lowest", math.inf)\n        self.lowest = min(value, best_before)\n',
    ),
    (
        'since_best = sum(row["step"] > self.log.best_step for row in self.log.valid)',
        'since_best = self.waited = 0 if value < best_before else getattr(self, "waited", 0) + 1',
    ),
)
stop.slip(
    "nan not refused",
    "You let a loss of nan through. nan is lower than nothing and higher than nothing, so training goes on until patience is spent, and nobody hears why. Raise a UserError unless math.isfinite(value).",
    ("if not math.isfinite(value):", "if False:"),
)
stop.slip(
    "a loss of 0 forgotten",
    "You take a lowest loss of 0 for none. 0 is a loss like any other, but it counts as false: ask whether the list is empty, or give min a default.",
    ("default=math.inf)\n", "default=math.inf) or math.inf\n"),
)


# ---------------------------------------------------------------- 5.5


def f1_by_parts(predictions, truths, positive):
    """Precision, recall, and their harmonic mean."""
    called = [
        truth
        for prediction, truth in zip(predictions, truths, strict=True)
        if prediction == positive
    ]
    true = [
        prediction
        for prediction, truth in zip(predictions, truths, strict=True)
        if truth == positive
    ]
    precision = called.count(positive) / len(called) if called else 0.0
    recall = true.count(positive) / len(true) if true else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


f1 = Exercise(
    id="5.5",
    target="minitransformer.metrics:f1",
    title="F1",
    minutes=10,
    difficulty=2,
    purpose="Accuracy looks good for a model that always predicts the frequent class. F1 puts two measures of one class into one number: precision "
    "(of those predicted positive, how many are positive) and recall (of the positive ones, how many are predicted positive).",
    given=(
        '_check_pairs(xs, ys, name): refuses what is empty or not in pairs; name is what the second are called, "truths".',
    ),
    hints=(
        "Three counts are enough: TP (predicted positive, and positive), FP (predicted positive, but not positive), FN (positive, but not predicted so). "
        "All others do not count.",
        "2 TP + FP + FN is the number of positive predictions plus the number of positive truths. What if that is 0?",
        "_check_pairs refuses what is not in pairs.\n"
        '    _check_pairs(predictions, truths, "truths")\n'
        "    pairs = list(zip(predictions, truths))\n"
        "    both = sum(p == t == positive for p, t in pairs)\n"
        "    either = sum((p == positive) + (t == positive) for p, t in pairs)\n"
        "    return 2 * both / either if either else 0.0",
    ),
    oracle=f1_by_parts,
)


@f1.case
def one_hit():
    """One example, positive and called so."""
    return ["+"], ["+"], "+"


@f1.case
def one_of_each():
    """One each of TP, FP, FN and TN."""
    return ["+", "+", "-", "-"], ["+", "-", "+", "-"], "+"


@f1.case
def bold():
    """Says positive too often."""
    return ["+", "+", "+", "+", "-"], ["+", "-", "-", "-", "-"], "+"


@f1.case
def shy():
    """Says positive too seldom."""
    return ["+", "-", "-", "-", "-", "-"], ["+", "+", "+", "+", "-", "-"], "+"


@f1.case
def never_said_never_true():
    """The class is neither predicted nor true: 0."""
    return ["-", "-"], ["-", "-"], "+"


@f1.case
def three_classes():
    """The class b among three."""
    return list("abcbbac"), list("abcabca"), "b"


@f1.case
def class_zero():
    """The class 0 of 0, 1 and 2."""
    return [0, 1, 0, 2, 0], [0, 0, 2, 2, 0], 0


@f1.case
def not_in_pairs():
    """Two predictions and three truths are refused."""
    return ["+", "-"], ["+", "-", "-"], "+"


@f1.case
def nothing_at_all():
    """No predictions and no truths are refused."""
    return [], [], "+"


def with_counts(formula, checked=True):
    """The function as a learner would write it, with this formula of TP, FP, FN and TN at its end."""

    def f1(predictions, truths, positive):
        if checked:
            _check_pairs(predictions, truths, "truths")
        pairs = list(zip(predictions, truths, strict=False))
        TP = sum(p == positive and t == positive for p, t in pairs)
        FP = sum(p == positive and t != positive for p, t in pairs)
        FN = sum(p != positive and t == positive for p, t in pairs)
        TN = len(pairs) - TP - FP - FN
        return formula(TP, FP, FN, TN)

    return f1


def safe(above, below):
    """A quotient, 0 where there is nothing to divide by."""
    return above / below if below else 0.0


@f1.mistake
def arithmetic_mean(predictions, truths, positive):
    """You take the plain mean of precision and recall. A model that calls everything positive has a recall of 1, so its plain mean is at least a half. The harmonic mean is near the smaller of the two."""
    return with_counts(lambda TP, FP, FN, TN: (safe(TP, TP + FP) + safe(TP, TP + FN)) / 2)(
        predictions, truths, positive
    )


@f1.mistake
def twice_the_product_forgotten(predictions, truths, positive):
    """The factor 2 is missing. Without it, precision · recall / (precision + recall) is at most a half; with it, a perfect model has 1."""
    return with_counts(lambda TP, FP, FN, TN: safe(TP, 2 * TP + FP + FN))(
        predictions, truths, positive
    )


@f1.mistake
def precision_alone(predictions, truths, positive):
    """That is precision: the fraction of those called positive that are positive. It does not ask how many were missed."""
    return with_counts(lambda TP, FP, FN, TN: safe(TP, TP + FP))(predictions, truths, positive)


@f1.mistake
def recall_alone(predictions, truths, positive):
    """That is recall: the fraction of the positive ones that were found. A model that calls everything positive has a recall of 1."""
    return with_counts(lambda TP, FP, FN, TN: safe(TP, TP + FN))(predictions, truths, positive)


@f1.mistake
def accuracy_in_its_place(predictions, truths, positive):
    """You count every right answer, also where neither the model nor the truth says positive. That is accuracy. F1 leaves out the true negatives."""
    return with_counts(lambda TP, FP, FN, TN: safe(TP + TN, TP + FP + FN + TN))(
        predictions, truths, positive
    )


@f1.mistake
def divided_by_nothing(predictions, truths, positive):
    """You divide by 0 where the class is neither predicted nor true. F1 is 0 there."""
    return with_counts(lambda TP, FP, FN, TN: 2 * TP / (2 * TP + FP + FN))(
        predictions, truths, positive
    )


@f1.mistake
def pairs_not_checked(predictions, truths, positive):
    """You accept a different number of predictions and truths. zip stops at the shorter list, so the rest is never judged. Call _check_pairs, which refuses them."""
    return with_counts(lambda TP, FP, FN, TN: safe(2 * TP, 2 * TP + FP + FN), checked=False)(
        predictions, truths, positive
    )


@f1.mistake
def hits_of_every_class(predictions, truths, positive):
    """You count every right answer as a hit (p == t). TP are those in which both are the positive class: p == t == positive."""
    _check_pairs(predictions, truths, "truths")
    pairs = list(zip(predictions, truths, strict=True))
    hits = sum(p == t for p, t in pairs)
    return (
        safe(2 * hits, 2 * hits + sum(p != t and positive in (p, t) for p, t in pairs))
        if hits
        else 0.0
    )


@f1.mistake
def class_0_never_counted(predictions, truths, positive):
    """You use a prediction as a condition (if p, p and …). But a class can be the number 0, which counts as False. Compare it with positive: p == positive."""
    _check_pairs(predictions, truths, "truths")
    pairs = list(zip(predictions, truths, strict=True))
    both = sum(bool(p) and p == t == positive for p, t in pairs)
    return safe(2 * both, sum((p == positive) + (t == positive) for p, t in pairs))


@f1.mistake
def in_percent(predictions, truths, positive):
    """You return percent. F1 is a fraction, from 0 to 1."""
    _check_pairs(predictions, truths, "truths")
    return 100 * f1_by_parts(predictions, truths, positive)


@f1.mistake
def one_where_there_is_nothing(predictions, truths, positive):
    """You give 1 where the class is neither predicted nor true. The docstring promises 0 there."""
    return with_counts(
        lambda TP, FP, FN, TN: safe(2 * TP, 2 * TP + FP + FN) if TP + FP + FN else 1.0
    )(predictions, truths, positive)


@f1.mistake
def the_smaller_of_the_two(predictions, truths, positive):
    """You take the smaller of precision and recall. The harmonic mean is near it, but not equal to it."""
    return with_counts(lambda TP, FP, FN, TN: min(safe(TP, TP + FP), safe(TP, TP + FN)))(
        predictions, truths, positive
    )


@f1.mistake
def geometric_mean(predictions, truths, positive):
    """You take the root of precision times recall. F1 is the harmonic mean: 2 · precision · recall / (precision + recall)."""
    return with_counts(lambda TP, FP, FN, TN: (safe(TP, TP + FP) * safe(TP, TP + FN)) ** 0.5)(
        predictions, truths, positive
    )


# ---------------------------------------------------------------- 5.6

full = Exercise(
    id="5.6",
    target="minitransformer.tuning.full:FullFineTuning.install",
    title="On and off again",
    minutes=15,
    difficulty=2,
    purpose="Full fine-tuning changes every parameter of the base. To take it off again, and put it on once more, it has to keep two sets of them: the base's "
    "own while it is attached, the tuned ones while it is not. This is what happens when it is attached.",
    hints=(
        "own = base_parameters(base) are the base's parameters by name; self.names(base) says which of them are trained. Do three things for each of them: keep "
        "its numbers, put in the tuned ones, and let it learn.",
        "Keep a copy, and make it before anything is put in. If self.tuned has the name, write its numbers into the existing parameter: an optimizer or a "
        "tied table can hold this parameter, so it must not be replaced.",
        "    own = base_parameters(base)\n"
        "    for name in self.names(base):\n"
        "        self.before[name] = own[name].detach().clone()\n"
        "        if name in self.tuned:\n"
        "            own[name].data.copy_(self.tuned[name])\n"
        "        own[name].requires_grad_(True)\n"
        "    return ()",
    ),
    given=(
        "base_parameters(base): the base's own parameters by name.",
        "self.names(base): the names of those that it trains.",
        "self.before: a dictionary for the base's own weights, by name.",
        "self.tuned: a dictionary of the tuned weights by name; empty before it was attached for the first time.",
    ),
)


def small_base(n_layer=1):
    """A tiny GPT."""
    return lively(GPT(GPTConfig(5, 4, n_layer, 1, 2, 2)))


def trained(base):
    """Add 1 to whatever may learn, in place of training."""
    with torch.no_grad():
        for p in base.parameters():
            if p.requires_grad:
                p += 1


def bias(base):
    """A copy of two numbers of the base."""
    return base.norm.bias.detach().clone()


@full.scene
def attached_to_a_base(FullFineTuning):
    """Attached: what learns, and what is kept."""
    base, method = small_base(), FullFineTuning()
    method.attach(base)
    return {
        "parameters that are frozen": [
            name for name, p in base.named_parameters() if not p.requires_grad
        ],
        "norm.bias as self.before keeps it": method.before["norm.bias"],
    }


@full.scene
def trained_and_taken_off(FullFineTuning):
    """One parameter before, after training, and when the method is off again."""
    base, method = small_base(), FullFineTuning()
    seen = {"the parameter before": bias(base)}
    method.attach(base)
    trained(base)
    seen["the parameter when trained"] = bias(base)
    method.detach()
    return seen | {"the parameter when the method is off again": bias(base)}


@full.scene
def put_on_once_more(FullFineTuning):
    """Trained, taken off, put on once more, and taken off."""
    base, method = small_base(), FullFineTuning()
    method.attach(base)
    trained(base)
    method.detach()
    seen = {"the parameter after the first detach()": bias(base)}
    method.attach(base)
    seen["the parameter after the second attach()"] = bias(base)
    method.detach()
    return seen | {"the parameter after the second detach()": bias(base)}


@full.scene
def one_who_trains_less(FullFineTuning):
    """TopLayers, which inherits this: one layer of two."""
    base, method = small_base(2), TopLayers(1)
    method.attach(base)
    return {
        "parameters that learn": sorted(
            name for name, p in base.named_parameters() if p.requires_grad
        ),
        "parameters of which self.before keeps a copy": sorted(method.before),
    }


KEPT = "self.before[name] = own[name].detach().clone()\n"
LEARNS = "own[name].requires_grad_(True)\n"
full.slip(
    "kept without a copy",
    "You keep the parameter's own memory, not a copy of it: training changes what you kept, and when the method is taken off the base stays as it was tuned.",
    (KEPT, "self.before[name] = own[name].detach()\n"),
)
full.slip(
    "still frozen",
    "Nothing learns. When a method is attached, the base is frozen first. Here its parameters have to require a gradient again.",
    (LEARNS, "pass\n"),
)
full.slip(
    "tuned numbers not put back",
    "Put on once more, your method has forgotten what it learned: the numbers in self.tuned have to go into the base. (own[name] = … would change the dictionary "
    "only; own[name].data.copy_(…) changes the parameter.)",
    ("own[name].data.copy_(self.tuned[name])\n", "pass\n"),
)
full.slip(
    "kept too late",
    "You keep a copy after you have put the tuned parameters in. So you keep the tuned ones twice, and the base's own are lost.",
    (KEPT, "pass\n"),
    (LEARNS, "own[name].requires_grad_(True); self.before[name] = own[name].detach().clone()\n"),
)
full.slip(
    "every parameter",
    "You take every parameter of the base. Other methods inherit this one and train fewer (the top layers, the biases): self.names(base) says which.",
    ("for name in self.names(base):", "for name in own:"),
)
full.slip(
    "everything learns",
    "You let every parameter of the base learn. Other methods inherit this one and train fewer (the top layers, the biases): only own[name], for the names that self.names(base) gives.",
    (LEARNS, "base.requires_grad_(True)\n"),
)
full.slip(
    "nothing kept",
    "You do not keep the base's own parameters, so nothing can be put back when the method is taken off.",
    (KEPT, "pass\n"),
)
full.slip(
    "only what was tuned before",
    "You go through self.tuned, which is empty the first time. Then nothing learns, and nothing is kept. Go through self.names(base); some of these parameters can be in self.tuned.",
    ("for name in self.names(base):", "for name in self.tuned:"),
)
full.slip(
    "nothing returned",
    "You return nothing, which is None. attach goes through the handles that install returns. Here there are no handles, so return ().",
    ("return ()", "return None"),
)
