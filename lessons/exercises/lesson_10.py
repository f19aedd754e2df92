"""Exercises of lesson 10: the three places, a table for each, positions behind a prefix, a prefix in a BERT, its summary."""

import torch
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.models.attention import Attention, Prefix
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from minitransformer.tuning import PrefixTuning
from minitransformer.tuning.prefix import to_prefixes
from torch import nn

SIZES = {"vocab_size": 9, "n_positions": 12, "n_head": 2, "d_model": 6, "d_ff": 8, "init_std": 0.5}


def small_gpt():
    """A GPT of three layers."""
    return GPT(GPTConfig(**SIZES, n_layer=3))


def small_bert(n_layer=2, dropout=0.0):
    """A BERT whose norms have factors other than 1. With factors of 1, one norm too many would not show."""
    bert = Bert(BertConfig(**SIZES, n_layer=n_layer, dropout=dropout))
    with torch.no_grad():
        for module in bert.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.copy_(1 + tidy(6) / 4)
                module.bias.copy_(tidy(6) / 4)
    return bert


def small_seq2seq(n_encoder_layer=2, n_decoder_layer=1):
    """An encoder–decoder."""
    config = Seq2SeqConfig(
        **SIZES,
        n_encoder_layer=n_encoder_layer,
        n_decoder_layer=n_decoder_layer,
        pad_id=0,
        start_id=1,
        end_id=2,
    )
    return Seq2Seq(config)


# ---------------------------------------------------------------- 10.1


def slots_by_name(base):
    """By the modules' names."""
    layers = {
        name: module for name, module in base.named_modules() if isinstance(module, Attention)
    }
    ends = {
        "encoder_prefix": ("encoder.", ".attention"),
        "prefix": ("decoder.", ".attention"),
        "cross_prefix": ("decoder.", ".cross"),
    }
    if not isinstance(base, Seq2Seq):
        ends = {"prefix": ("blocks.", ".attention")}
    return {
        slot: [
            module
            for name, module in layers.items()
            if name.startswith(first) and name.endswith(last)
        ]
        for slot, (first, last) in ends.items()
    }


places = Exercise(
    id="10.1",
    target="minitransformer.tuning.prefix:prefix_slots",
    title="Where prefixes go",
    minutes=10,
    difficulty=1,
    purpose="A GPT and a BERT have one stack. Each of its layers has one attention, which can get a prefix. An encoder–decoder has three places: "
    "the encoder's self-attention, which reads x (encoder_prefix); the decoder's self-attention, which reads y (prefix); and its cross-attention, which reads "
    "what the encoder made of x (cross_prefix). This function names the places, each with the attention of every layer, in order.",
    hints=(
        "Which attributes hold the layers of the three models, and which attribute of a layer is its attention? (A decoder's layer has two.)",
        "A GPT and a BERT have `blocks`, a Seq2Seq has `encoder` and `decoder`. A layer's self-attention is `attention`, a decoder's other one `cross`.",
        "    if isinstance(base, Seq2Seq):\n"
        "        return {\n"
        '            "encoder_prefix": [block.attention for block in base.encoder],\n'
        '            # "prefix": the same of base.decoder\n'
        '            "cross_prefix": [block.cross for block in base.decoder],\n'
        "        }\n"
        '    return {"prefix": [block.attention for block in base.blocks]}',
    ),
    given=(
        "base.blocks: the layers of a GPT or a BERT, from the lowest up.",
        "base.encoder, base.decoder: the layers of a Seq2Seq.",
        "block.attention: a layer's self-attention.",
        "block.cross: the cross-attention of a decoder's layer.",
    ),
    oracle=slots_by_name,
)


@places.case
def a_bert():
    """A BERT of two layers."""
    return (small_bert(),)


@places.case
def a_gpt():
    """A GPT of three layers."""
    return (small_gpt(),)


@places.case
def one_layer_each():
    """An encoder–decoder of one layer and one."""
    return (small_seq2seq(1, 1),)


@places.case
def two_and_three_layers():
    """An encoder–decoder of two layers and three."""
    return (small_seq2seq(2, 3),)


@places.case
def three_layers_and_one():
    """An encoder–decoder of three layers and one."""
    return (small_seq2seq(3, 1),)


def wrong_slots(
    encoder=lambda base: base.encoder,
    own=lambda base: base.decoder,
    cross=lambda base: base.decoder,
    one="attention",
    other="cross",
):
    """The function as a learner would write it, with one thing in it replaced."""

    def prefix_slots(base):
        if not isinstance(base, Seq2Seq):
            return {"prefix": [block.attention for block in base.blocks]}
        return {
            "encoder_prefix": [block.attention for block in encoder(base)],
            "prefix": [getattr(block, one) for block in own(base)],
            "cross_prefix": [getattr(block, other) for block in cross(base)],
        }

    return prefix_slots


@places.mistake
def decoder_alone(base):
    """You leave the encoder out, as some libraries do. Then x is read without a prefix. An encoder–decoder has three places."""
    slots = wrong_slots()(base)
    slots.pop("encoder_prefix", None)
    return slots


@places.mistake
def no_cross_attention(base):
    """You leave cross-attention out. There the decoder reads what the encoder made of x, and there a prefix can stand too."""
    slots = wrong_slots()(base)
    slots.pop("cross_prefix", None)
    return slots


@places.mistake
def own_and_cross_exchanged(base):
    """You have swapped the decoder's two attentions. `attention` reads y and takes `prefix`. `cross` reads x and takes `cross_prefix`."""
    return wrong_slots(one="cross", other="attention")(base)


@places.mistake
def decoder_in_place_of_encoder(base):
    """Your encoder_prefix goes to the decoder's layers. So it would never change how x is read."""
    return wrong_slots(encoder=lambda base: base.decoder)(base)


@places.mistake
def self_attention_twice(base):
    """You give cross_prefix the decoder's self-attention again. A decoder's layer has a second attention: `cross`."""
    return wrong_slots(other="attention")(base)


@places.mistake
def blocks_themselves(base):
    """You return whole layers. The attention inside takes the prefix: block.attention, or block.cross."""
    if not isinstance(base, Seq2Seq):
        return {"prefix": list(base.blocks)}
    return {
        "encoder_prefix": list(base.encoder),
        "prefix": list(base.decoder),
        "cross_prefix": list(base.decoder),
    }


@places.mistake
def other_names(base):
    """Your slots have other names. A slot has the name of the argument by which a base takes its prefix: "prefix", and in an encoder–decoder also "encoder_prefix" and "cross_prefix"."""
    slots = wrong_slots()(base)
    return (
        slots
        if len(slots) == 1
        else dict(zip(("encoder", "decoder", "cross"), slots.values(), strict=True))
    )


@places.mistake
def every_attention_in_one_slot(base):
    """You put every attention of the base under "prefix". An encoder–decoder has three places, each with an argument of its own."""
    return {"prefix": [module for module in base.modules() if isinstance(module, Attention)]}


@places.mistake
def top_layer_first(base):
    """Your layers stand in reverse order. The first prefix in a list belongs to the lowest layer."""
    return {slot: layers[::-1] for slot, layers in wrong_slots()(base).items()}


@places.mistake
def always_an_encoder_decoder(base):
    """You look for an encoder in every base. A GPT and a BERT have only `blocks`. Ask isinstance(base, Seq2Seq)."""
    return {"encoder_prefix": [block.attention for block in base.encoder], **wrong_slots()(base)}


@places.mistake
def the_encoders_cross(base):
    """You ask the encoder's layers for their cross-attention. They have none. The decoder has it."""
    return wrong_slots(cross=lambda base: base.encoder)(base)


@places.mistake
def first_layer_alone(base):
    """You name only the first layer of each stack. A prefix stands in every layer."""
    return {slot: layers[:1] for slot, layers in wrong_slots()(base).items()}


# ---------------------------------------------------------------- 10.2


def prefixes_by_loop(self):
    """Column by column of each P_θ."""
    found = {}
    for slot, encoder in self.encoders.items():
        numbers, n_layer = encoder(), self._n_layer[slot]  # (P, n_layer*2*C)
        n_top = self.layers or n_layer
        C = numbers.size(1) // (2 * n_top)
        D, found[slot] = C // self._n_head, []
        for layer in range(n_layer):
            kv = []
            for part in (0, 1):
                first = ((layer - n_layer + n_top) * 2 + part) * C
                heads = [
                    numbers[:, first + h * D : first + (h + 1) * D] for h in range(self._n_head)
                ]
                kv.append(
                    torch.stack(heads)[None]
                    if layer >= n_layer - n_top
                    else torch.zeros(1, self._n_head, 0, D)
                )
            found[slot].append(Prefix(*kv))
    return found


carried = Exercise(
    id="10.2",
    target="minitransformer.tuning.prefix:PrefixTuning.prefixes",
    title="A prefix for each place",
    minutes=20,
    difficulty=3,
    purpose="This turns P_θ into the arguments for the base: for each slot, a Prefix for every layer. With self.layers = n, only the top n "
    "layers have a prefix, and P_θ has columns for these layers alone. All layers below get a prefix of length 0, which changes nothing.",
    hints=(
        "Take one slot after the other. Unpack its P_θ with to_prefixes, for as many layers as P_θ has columns for. Put empty prefixes in front, for the layers below.",
        "n_top = self.layers or self._n_layer[slot] layers have columns. The keys and values of an empty prefix are (1, H, 0, D): take a slice of length 0 of a real "
        "one, part[:, :, :0]. You need self._n_layer[slot] - n_top of them.",
        "    for slot, encoder in self.encoders.items():\n"
        "        # n_top: how many layers have a prefix\n"
        "        top = to_prefixes(encoder(), n_top, self._n_head)\n"
        "        none = Prefix(*(part[:, :, :0] for part in top[0]))\n"
        "        n_without = self._n_layer[slot] - n_top\n"
        "        prefixes[slot] = [none] * n_without + top",
    ),
    given=(
        "self.encoders: slot → an encoder, for each slot with a prefix. Calling it gives P_θ (P, n·2·C), for n layers.",
        "self.layers: how many layers from the top have a prefix; None for all.",
        "self._n_layer: slot → how many layers the base has there.",
        "self._n_head: H.",
        "to_prefixes(flat, n_layer, n_head): P_θ → a list with a Prefix(k, v) for each of n_layer layers, both (1, H, P, D).",
        "Prefix(k, v): a pair of keys and values.",
    ),
    oracle=prefixes_by_loop,
)


def built(base, **how):
    """Prefix tuning with its parameters made; each has one decimal."""
    method = PrefixTuning(**how)
    with torch.no_grad():
        method.build(base)
        for encoder in method.encoders.values():
            if encoder.free is not None:
                encoder.free.copy_(tidy(*encoder.free.shape))
    return method


@carried.case
def one_layer_of_numbers():
    """A BERT of one layer with two heads of three numbers, four virtual tokens."""
    return (built(small_bert(1), length=4),)


@carried.case
def top_layer():
    """A BERT of two layers; only the top one has a prefix, of two virtual tokens."""
    return (built(small_bert(), length=2, layers=1),)


@carried.case
def top_two_of_three():
    """A GPT of three layers, the top two with a prefix."""
    return (built(small_gpt(), length=1, layers=2),)


@carried.case
def three_places():
    """An encoder–decoder of two layers and two: three slots."""
    return (built(small_seq2seq(2, 2), length=3),)


@carried.case
def stacks_of_different_height():
    """An encoder–decoder of two layers and one; only the encoder and cross-attention have a prefix."""
    return (built(small_seq2seq(), length=2, slots=["encoder_prefix", "cross_prefix"]),)


@carried.case
def top_layer_of_stacks_of_different_height():
    """An encoder–decoder of two layers and one; the top layer of each has a prefix."""
    return (built(small_seq2seq(), length=2, layers=1),)


@carried.scene
def asked_twice(PrefixTuning):
    """Asked for, then trained a step, then asked for again."""
    method = built(small_bert(1), length=2, reparametrise=3)
    first = method.prefixes()["prefix"][0]
    with torch.no_grad():
        for p in method.parameters():
            p.mul_(0.5)
    return {
        "prefix of the layer at first": Prefix(*(part.detach().clone() for part in first)),
        "prefix of the layer after the step": method.prefixes()["prefix"][0],
    }


@carried.scene
def every_place_learns(PrefixTuning):
    """The gradient of each slot's P_θ."""
    method = built(small_seq2seq(), length=1)
    sum(
        ((i + 2) * (k + 2 * v)).sum()
        for i, layers in enumerate(method.prefixes().values())
        for k, v in layers
    ).backward()
    return {slot: encoder.free.grad for slot, encoder in method.encoders.items()}


@carried.scene
def each_made_once(PrefixTuning):
    """A GPT of three layers: how often is P_θ made?"""
    method, made = built(small_gpt(), length=2, reparametrise=3), []
    method.encoders["prefix"].register_forward_hook(lambda *_: made.append(1))
    method.prefixes()
    return {"how often P_θ is made": len(made)}


def wrong_prefixes(
    self,
    encoder_of=None,
    join=lambda empty, top: empty + top,
    nothing=lambda part: part[:, :, :0],
    change=lambda flat: flat,
    slots=None,
    numbers=lambda encoder: encoder(),
):
    """The method as a learner would write it, with one thing in it replaced."""
    prefixes = {}
    for slot in slots or self.encoders:
        n_top = self.layers or self._n_layer[slot]
        encoder = self.encoders[encoder_of or slot]
        top = to_prefixes(change(numbers(encoder)), n_top, self._n_head)
        none = Prefix(*(nothing(part) for part in top[0]))
        prefixes[slot] = join([none] * (self._n_layer[slot] - n_top), top)
    return prefixes


@carried.mistake
def one_encoder_for_all(self):
    """All your places use the same P_θ. Each place has its own, because reading x and writing y need different help."""
    return wrong_prefixes(self, encoder_of=next(iter(self.encoders)))


@carried.mistake
def made_for_each_layer(self):
    """You call the encoder once for each layer. One call makes P_θ for all layers, and under reparametrisation each call costs a pass through an MLP. Call it once for each slot."""
    found = {}
    for slot, encoder in self.encoders.items():
        n, n_top = self._n_layer[slot], self.layers or self._n_layer[slot]
        found[slot] = []
        for i in range(n):
            top = to_prefixes(encoder(), n_top, self._n_head)
            none = Prefix(*(part[:, :, :0] for part in top[0]))
            found[slot].append(none if i < n - n_top else top[i - n + n_top])
    return found


@carried.mistake
def as_many_layers_everywhere(self):
    """You use the number of layers of one slot for all slots. Encoder and decoder can have different numbers of layers: self._n_layer[slot]."""
    n_layer = max(self._n_layer.values())
    found = {}
    for slot, encoder in self.encoders.items():
        n_top = self.layers or self._n_layer[slot]
        top = to_prefixes(encoder(), n_top, self._n_head)
        none = Prefix(*(part[:, :, :0] for part in top[0]))
        found[slot] = [none] * (n_layer - n_top) + top
    return found


@carried.mistake
def bottom_layers(self):
    """Your prefixes go to the lowest layers, and the top layers stay empty. layers=n means the top n, so the empty prefixes come first."""
    return wrong_prefixes(self, join=lambda empty, top: top + empty)


@carried.mistake
def empty_ones_missing(self):
    """You return prefixes only for the top layers. So the list is too short for the base, and each prefix would go to a wrong layer. The layers below get empty prefixes."""
    return wrong_prefixes(self, join=lambda empty, top: top)


@carried.mistake
def zeros_in_place_of_nothing(self):
    """Your lower layers get prefixes of zeros. A key of zeros still has the score 0, so it gets e⁰ = 1 and takes a part of the attention. An empty prefix has length 0."""
    return wrong_prefixes(self, nothing=lambda part: 0 * part)


@carried.mistake
def none_in_place_of_nothing(self):
    """Your lower layers get None. The base needs a Prefix for every layer. Give them one of length 0, with keys and values (1, H, 0, D)."""
    prefixes = wrong_prefixes(self)
    n_empty = {
        slot: self._n_layer[slot] - (self.layers or self._n_layer[slot]) for slot in prefixes
    }
    return {
        slot: [None] * n_empty[slot] + layers[n_empty[slot] :] for slot, layers in prefixes.items()
    }


@carried.mistake
def cut_for_every_layer(self):
    """You unpack each P_θ for all layers of the base. With self.layers = n it has columns for n layers only. Unpack it for self.layers or self._n_layer[slot] layers."""
    return {
        slot: to_prefixes(encoder(), self._n_layer[slot], self._n_head)
        for slot, encoder in self.encoders.items()
    }


@carried.mistake
def layers_taken_for_a_number(self):
    """You use self.layers as a number. It is None if all layers have a prefix. Write self.layers or self._n_layer[slot]."""
    return {
        slot: to_prefixes(encoder(), self.layers, self._n_head)
        for slot, encoder in self.encoders.items()
    }


@carried.mistake
def the_encoder_not_called(self):
    """You give to_prefixes the encoder, which is a module. Call it to get P_θ: encoder()."""
    return {
        slot: to_prefixes(encoder, self.layers or self._n_layer[slot], self._n_head)
        for slot, encoder in self.encoders.items()
    }


@carried.mistake
def the_free_numbers_alone(self):
    """You read encoder.free. Under reparametrisation it does not exist, and the MLP makes P_θ. encoder() gives P_θ in both cases."""
    return wrong_prefixes(self, numbers=lambda encoder: encoder.free)


@carried.mistake
def as_many_empty_ones_as_layers(self):
    """You put an empty prefix in front for every layer of the base. Only the layers below the top n get one. There are self._n_layer[slot] - n of them."""
    return wrong_prefixes(
        self,
        join=lambda empty, top: (
            empty + [Prefix(*(part[:, :, :0] for part in top[0]))] * len(top) + top
        ),
    )


@carried.mistake
def no_heads_in_place_of_no_tokens(self):
    """Your empty prefixes have length 0 along the wrong axis. There are no virtual tokens, so they are (1, H, 0, D): part[:, :, :0]."""
    return wrong_prefixes(self, nothing=lambda part: part[:, :0])


@carried.mistake
def kept_from_the_first_time(self):
    """You keep the prefixes of the first call. After a training step they are out of date, and no gradient can go through them again. Compute them at every call."""
    if not hasattr(self, "_kept"):
        self._kept = wrong_prefixes(self)
    return self._kept


@carried.mistake
def cut_off_from_what_is_trained(self):
    """Your prefixes have lost their gradient (detach, no_grad). So P_θ could not be trained, and nothing else is."""
    return wrong_prefixes(self, change=lambda flat: flat.detach())


@carried.mistake
def every_slot_of_the_base(self):
    """You go through all slots of the base. Only the slots in self.encoders have an encoder."""
    return wrong_prefixes(self, slots=list(self._n_layer))


# ---------------------------------------------------------------- 10.3

position = Exercise(
    id="10.3",
    target="minitransformer.models.layers:positions_of",
    title="The text begins at P",
    minutes=15,
    difficulty=2,
    purpose="A prefix takes the positions 0 … P-1, so a text begins at position P. Padding takes no position, so a text has the same "
    "positions wherever its padding stands. The model looks up the vectors of these positions in its table. (The position of padding itself does not matter, if "
    "the table has it.)",
    given=(
        "attention_mask.cumsum(dim=1): along each row, how many are True so far, this one included.",
    ),
    hints=(
        "A token's position is P plus the number of real tokens before it. Which function counts the Trues along a row?",
        "attention_mask.cumsum(dim=1) counts the token itself too, so subtract 1. Only the last n_new columns belong to this call. Without a prefix, padding at the left "
        "would get -1, which is no row of the table: clamp(min=0).",
        "    order = n_prefix + attention_mask.cumsum(dim=1) - 1\n"
        "    # return the last n_new columns of order, with clamp(min=0)",
    ),
)


def positions(positions_of, attention_mask, T, P):
    """The position of each real token of a call."""
    attention_mask = torch.tensor(attention_mask).bool()  # (B, S)
    found = positions_of(attention_mask, T, P)  # (B, T)
    return {
        "shape of the output": tuple(found.shape),
        "type of the output": str(found.dtype),
        "positions of the real tokens": [
            row[kept].tolist() for row, kept in zip(found, attention_mask[:, -T:], strict=True)
        ],
        "whether padding has positions that exist": bool((found >= 0).all()),
    }


@position.scene
def nothing_special(positions_of):
    """Three real tokens, no prefix."""
    return positions(positions_of, [[1, 1, 1]], T=3, P=0)


@position.scene
def behind_a_prefix(positions_of):
    """Two texts, padding at the right, behind a prefix of two."""
    return positions(positions_of, [[1, 1, 1], [1, 1, 0]], T=3, P=2)


@position.scene
def padding_in_front(positions_of):
    """Padding at the left, no prefix."""
    return positions(positions_of, [[0, 0, 1, 1], [1, 1, 1, 1]], T=4, P=0)


@position.scene
def padding_and_prefix(positions_of):
    """Padding at the left behind a prefix of three."""
    return positions(positions_of, [[0, 1, 1], [1, 1, 1]], T=3, P=3)


@position.scene
def with_a_cache(positions_of):
    """Two new tokens after three tokens in a cache, padding, and a prefix of two."""
    return positions(positions_of, [[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]], T=2, P=2)


@position.scene
def padding_between_tokens(positions_of):
    """Padding between the tokens, as if a padded text were continued; a prefix of one."""
    return positions(positions_of, [[1, 0, 1, 1], [0, 1, 0, 1]], T=4, P=1)


@position.scene
def in_the_model(positions_of):
    """A GPT's vectors of three tokens behind two of padding."""
    config = GPTConfig(vocab_size=9, n_positions=8, n_layer=1, n_head=1, d_model=4, d_ff=4)
    ids, attention_mask = torch.tensor([[0, 0, 3, 4, 5]]), torch.tensor([[0, 0, 1, 1, 1]]).bool()
    return GPT(config).eval()(ids, attention_mask, at=attention_mask, return_hidden=True)


ORDER, LOOK = (
    "order = n_prefix + attention_mask.cumsum(dim=1) - 1",
    "return order[:, -n_new:].clamp(min=0)",
)
position.slip(
    "prefix takes None",
    "Your text begins at position 0 even after a prefix. The prefix was trained with the text at P, so here it gives other logits. Add "
    "n_prefix.",
    (ORDER, "order = attention_mask.cumsum(dim=1) - 1"),
)
position.slip(
    "one too far",
    "All your positions are one too high. cumsum counts the token itself too, and the first token has position P.",
    (ORDER, "order = n_prefix + attention_mask.cumsum(dim=1)"),
)
position.slip(
    "padding counted",
    "Your padding takes positions. So with padding at the left, a text gets other positions than alone. Count only the real tokens: attention_mask.cumsum(dim=1).",
    (ORDER, "order = n_prefix + torch.ones_like(attention_mask).cumsum(dim=1) - 1"),
)
position.slip(
    "only padding in front seen",
    "You subtract the column of the first real token from a token's column. So padding between tokens takes a position. Count the real tokens: attention_mask.cumsum(dim=1).",
    (
        ORDER,
        "order = n_prefix + torch.arange(attention_mask.size(1)) - attention_mask.int().argmax(dim=1, keepdim=True)",
    ),
)
position.slip(
    "first in place of the last",
    "With a cache, you give the new tokens the positions of the first ones. attention_mask covers all tokens so far. Its last n_new columns are those of this call.",
    (LOOK, "return order[:, :n_new].clamp(min=0)"),
)
position.slip(
    "only this call counted",
    "You count only the real tokens of this call. With a cache, the text continues after the cached tokens. Count over all of attention_mask, and then take the last n_new "
    "columns.",
    (ORDER, "order = n_prefix + attention_mask[:, -n_new:].cumsum(dim=1) - 1"),
)
position.slip(
    "all columns",
    "You return positions for all tokens so far. Return only those of this call, (B, T): the last n_new columns.",
    (LOOK, "return order.clamp(min=0)"),
)
position.slip(
    "position -1",
    "Padding in front of a text gets position -1. The table has no such row, so the look-up fails. Any row will do for padding: clamp(min=0).",
    (LOOK, "return order[:, -n_new:]"),
)
position.slip(
    "counted down the batch",
    "You count along the wrong axis, from text to text. Count within each row: dim=1.",
    (ORDER, "order = n_prefix + attention_mask.cumsum(dim=0) - 1"),
)

# ---------------------------------------------------------------- 10.4


def by_torch(self, ids, attention_mask=None, types=None, prefix=None, vectors=None):
    """A BERT on PyTorch's own encoder layers; without prefix."""
    C, T = self.config.d_model, ids.size(1)
    words = [
        [vectors[-1 - i] if i < 0 else self.token_embedding.weight[i] for i in row]
        for row in ids.tolist()
    ]
    types = torch.zeros_like(ids) if types is None else types
    x = (
        torch.stack([torch.stack(row) for row in words])
        + self.position_embedding(torch.arange(T))
        + self.type_embedding(types)
    )
    x = nn.functional.layer_norm(x, (C,), self.norm.weight, self.norm.bias, 1e-12)
    for block in self.blocks:
        layer = nn.TransformerEncoderLayer(
            C, self.config.n_head, self.config.d_ff, 0.0, "gelu", 1e-12, batch_first=True
        )
        attention = layer.self_attn
        pairs = [
            (attention.in_proj_weight, block.attention.qkv.weight),
            (attention.in_proj_bias, block.attention.qkv.bias),
            (attention.out_proj.weight, block.attention.out.weight),
            (attention.out_proj.bias, block.attention.out.bias),
            (layer.linear1.weight, block.mlp.up.weight),
            (layer.linear1.bias, block.mlp.up.bias),
            (layer.linear2.weight, block.mlp.down.weight),
            (layer.linear2.bias, block.mlp.down.bias),
            (layer.norm1.weight, block.norm1.weight),
            (layer.norm1.bias, block.norm1.bias),
            (layer.norm2.weight, block.norm2.weight),
            (layer.norm2.bias, block.norm2.bias),
        ]
        for its, ours in pairs:
            its.data.copy_(ours.data)
        x = layer(x)
    return x


reading = Exercise(
    id="10.4",
    target="minitransformer.models.bert:Bert.forward",
    title="A prefix in a BERT",
    minutes=20,
    difficulty=3,
    purpose="This is a whole BERT. The vectors of words, positions and sentence types are added and normalised. Then the layers read in both directions, each with the keys "
    "and values of its own prefix. Keys and values have no place of their own in the output, so [CLS] stays at index 0.",
    given=(
        "columns_before(prefix, None, n_layer): the pair (n_before, n_prefix).",
        "embed(embedding, ids, vectors): the tokens' vectors.",
        "embed_positions(embedding, ids, attention_mask, n_before, n_prefix): the vectors of their positions; refuses a row that is only padding.",
        "self._types(ids, types): the vectors of their sentence types.",
        "drop(x, p, training): dropout, which comes after the norm.",
        "block(x, attention_mask, prefix): one of self.blocks, with its own prefix or None.",
    ),
    hints=(
        "You need a sum of three, one norm, and a loop over the layers. Each layer gets its own prefix, or None.",
        "x = embed(self.token_embedding, ids, vectors), plus embed_positions(self.position_embedding, ids, attention_mask, *before), plus self._types(ids, types); "
        "then self.norm, drop(…, self.config.dropout, self.training), and the layers.",
        "    before = columns_before(prefix, None, self.config.n_layer)\n"
        "    # the sums, and the norm\n"
        "    for i, block in enumerate(self.blocks):\n"
        "        x = block(x, attention_mask, prefix[i] if prefix else None)",
    ),
    tolerance=1e-4,
)


def random_prefix(length, n_layer=2, batch=1):
    """Keys and values for each layer, (batch, H, P, D)."""
    return [Prefix(tidy(batch, 2, length, 3), tidy(batch, 2, length, 3)) for _ in range(n_layer)]


@reading.case(oracle=by_torch)
def one_layer():
    """One layer, two tokens, no prefix."""
    return small_bert(1), torch.tensor([[8, 3]])


@reading.case(oracle=by_torch)
def two_sentences():
    """Two layers, two texts with types."""
    return (
        small_bert(),
        torch.tensor([[8, 3, 5], [8, 1, 2]]),
        None,
        torch.tensor([[0, 0, 1], [0, 1, 1]]),
    )


@reading.case(oracle=by_torch)
def with_a_soft_prompt():
    """Virtual tokens behind [CLS], and their vectors."""
    return small_bert(), torch.tensor([[8, -1, -2, 5]]), None, None, None, tidy(2, 6)


@reading.case
def behind_one_virtual_token():
    """One layer, two tokens, a prefix of one virtual token."""
    return small_bert(1), torch.tensor([[8, 3]]), None, None, random_prefix(1, n_layer=1)


@reading.case
def a_prefix_in_each_layer():
    """Two layers, two texts, a prefix of three virtual tokens in each layer."""
    return small_bert(), torch.tensor([[8, 3, 5], [8, 1, 2]]), None, None, random_prefix(3)


@reading.case(oracle=by_torch)
def three_layers():
    """Three layers, two tokens."""
    return small_bert(3), torch.tensor([[8, 3]])


@reading.case
def a_prefix_for_each_text():
    """Two texts, each with a prefix of its own."""
    prefix = random_prefix(2, batch=2)
    return small_bert(), torch.tensor([[8, 3, 5], [8, 1, 2]]), None, None, prefix


@reading.scene(tolerance=1e-4)
def beside_padding(Bert):
    """Three texts, two of them padded, at the right and at the left, and a prefix; the real tokens' vectors."""
    base, attention_mask = (
        small_bert(),
        torch.tensor([[True, True, True], [True, True, False], [False, True, True]]),
    )
    return base(
        torch.tensor([[8, 3, 5], [8, 1, 0], [0, 8, 4]]), attention_mask, prefix=random_prefix(2)
    )[attention_mask]


@reading.scene(tolerance=1e-4)
def while_training(Bert):
    """One layer with a dropout of one half: in use, and in training."""
    base, ids = small_bert(1, dropout=0.5).eval(), torch.tensor([[8, 3]])
    in_use = base(ids)
    torch.manual_seed(0)
    return {"output in use": in_use, "output in training": base.train()(ids)}


@reading.case
def too_few_prefixes():
    """A prefix for one layer of two is refused."""
    return small_bert(), torch.tensor([[8, 3]]), None, None, random_prefix(1, n_layer=1)


@reading.scene
def a_type_that_there_is_not(Bert):
    """A sentence type that does not exist is refused."""
    return small_bert(1)(torch.tensor([[8, 3]]), types=torch.tensor([[0, 7]]))


@reading.scene
def padding_alone(Bert):
    """A text that is only padding is refused."""
    return small_bert()(
        torch.tensor([[8, 3], [0, 0]]), torch.tensor([[True, True], [False, False]])
    )


BLOCK = "block(x, attention_mask, prefix[i] if prefix else None)"
reading.slip(
    "the first layer's for all",
    "Every layer gets the first layer's prefix. Each layer has its own keys and values: prefix[i].",
    (BLOCK, "block(x, attention_mask, prefix[0] if prefix else None)"),
)
reading.slip(
    "only in the first layer",
    "Only the first layer gets its prefix. In prefix tuning every layer has one.",
    (BLOCK, "block(x, attention_mask, prefix[i] if prefix and i == 0 else None)"),
)
reading.slip(
    "a fixed number of layers",
    "You call two layers. The number of layers is in the config. Go through all of self.blocks.",
    ("enumerate(self.blocks)", "enumerate(self.blocks[:2])"),
)
reading.slip(
    "prefix ignored",
    "The prefix never reaches the layers. Apart from the positions, the output is the same with it and without it.",
    (BLOCK, "block(x, attention_mask, None)"),
)
reading.slip(
    "text begins at 0",
    "Your text begins at position 0 even after a prefix. The prefix takes the positions 0 … P-1, and columns_before(prefix, …) says how many columns stand before the text.",
    (
        "columns_before(prefix, None, self.config.n_layer)",
        "columns_before(None, None, self.config.n_layer)",
    ),
)
reading.slip(
    "padding seen",
    "Your layers do not get attention_mask. So all tokens read the padding as if it were words.",
    (BLOCK, "block(x, None, prefix[i] if prefix else None)"),
)
reading.slip(
    "not normalised",
    "You do not normalise the sum of the three embeddings. In a post-norm model, a norm comes before the first layer: self.norm(x).",
    ("drop(self.norm(x), ", "drop(x, "),
)
reading.slip(
    "types left out",
    "The sentence types are missing from the sum. If none are given, all tokens have type 0. This type has a vector too, and the model was trained with it.",
    ("x = x + self._types(ids, types)", "pass"),
)
reading.slip(
    "vectors not used",
    "Your virtual tokens get no vectors. embed takes the vectors as its third argument.",
    ("embed(self.token_embedding, ids, vectors)", "embed(self.token_embedding, ids)"),
)
reading.slip(
    "normalised once more",
    "You have one norm too many, after the layers. In a post-norm model each layer ends with its own norm. The output of the last layer is the result.",
    ("return x", "return self.norm(x)"),
)
reading.slip(
    "no dropout",
    "You leave out the dropout. In training it is applied to the normalised sum of the three embeddings.",
    ("drop(self.norm(x), self.config.dropout, self.training)", "self.norm(x)"),
)
reading.slip(
    "dropout before the norm",
    "You apply dropout before the norm. The norm then compensates for it. First the norm, then the dropout.",
    (
        "drop(self.norm(x), self.config.dropout, self.training)",
        "self.norm(drop(x, self.config.dropout, self.training))",
    ),
)
reading.slip(
    "dropout also in use",
    "You apply dropout outside of training too. So the same text gets other vectors each time. drop takes self.training as its last argument.",
    (
        "drop(self.norm(x), self.config.dropout, self.training)",
        "drop(self.norm(x), self.config.dropout, True)",
    ),
)
reading.slip(
    "padding counted",
    "embed_positions does not get attention_mask, so padding takes positions. A text with padding at the left then gets other positions than alone.",
    ("ids, attention_mask, *before)", "ids, None, *before)"),
)
reading.slip(
    "no positions",
    "The positions are missing from the sum. Attention by itself sees no order, so the model would read the words in no order.",
    ("x = x + embed_positions(self.position_embedding, ids, attention_mask, *before)", "pass"),
)
reading.slip(
    "layers unchecked",
    "You take the prefix's length from its first layer yourself. So a prefix for another number of layers fails later, with an unclear error. "
    "columns_before refuses it in a clear sentence.",
    (
        "before = columns_before(prefix, None, self.config.n_layer)",
        "before = [prefix[0].k.size(2) if prefix else 0] * 2",
    ),
)
reading.slip(
    "types unchecked",
    "You look up the types yourself. So a type that does not exist fails with an error of PyTorch. self._types refuses it in a clear sentence.",
    (
        "self._types(ids, types)",
        "self.type_embedding(torch.zeros_like(ids) if types is None else types)",
    ),
)
reading.slip(
    "embeddings scaled",
    "You multiply the words' vectors by √C, as the first transformer did. BERT adds them as they are.",
    (
        "embed(self.token_embedding, ids, vectors)",
        "embed(self.token_embedding, ids, vectors) * self.config.d_model**0.5",
    ),
)
reading.slip(
    "first rows cut off",
    "You cut P rows off the output, as for a prompt. A prefix of keys and values has no rows there. [CLS] is at index 0 already.",
    ("return x", "return x[:, prefix[0].k.size(2) if prefix else 0 :]"),
)
reading.slip(
    "prefixes in reverse",
    "You give the first layer the last layer's prefix. The list begins with the lowest layer: prefix[i].",
    (BLOCK, "block(x, attention_mask, prefix[-1 - i] if prefix else None)"),
)
reading.slip(
    "all prefixes to each layer",
    "You give each layer the whole list. A layer takes only its own Prefix: prefix[i].",
    (BLOCK, "block(x, attention_mask, prefix)"),
)
reading.slip(
    "layers side by side",
    "You do not keep the output of a layer, so you return the embeddings. Each layer reads the output of the layer before it: x = block(x, …).",
    ("x = block(", "block("),
)
reading.slip(
    "the stream added again",
    "You add a layer's input to its output. The residual sums are already inside the layer.",
    ("x = block(", "x = x + block("),
)
# ---------------------------------------------------------------- 10.5


def summary_by_loop(self, hidden):
    """Number by number."""
    W, b = self.pooler.weight, self.pooler.bias
    rows = [[((W[c] * text[0]).sum() + b[c]).tanh() for c in range(len(W))] for text in hidden]
    return torch.stack([torch.stack(row) for row in rows])


summary = Exercise(
    id="10.5",
    target="minitransformer.models.bert:Bert.pooled",
    title="What the pooler reads",
    minutes=5,
    difficulty=1,
    purpose="A classifier on a BERT reads one vector of the text, tanh(W h_[CLS] + b), and [CLS] stands at index 0. Therefore a prefix of keys and values, "
    'or a prompt after [CLS], suits a BERT, and vectors in front of everything do not. self._head("pooler") is the map with W and b; it refuses if there is none.',
    given=('self._head("pooler"): the layer that computes W h + b; it refuses if there is none.',),
    hints=(
        "hidden is (B, T, C). Along which axis does [CLS] have index 0, and which shape remains?",
        "hidden[:, 0] is (B, C). Then comes the map, and then tanh.",
        '    torch.tanh(self._head("pooler")(hidden[:, 0]))',
    ),
    oracle=summary_by_loop,
)


def with_bias():
    """A BERT of one layer whose pooler has a bias."""
    bert = small_bert(1)
    with torch.no_grad():
        bert.pooler.bias.copy_(tidy(6))
    return bert


@summary.case
def one_text():
    """One text of three tokens."""
    return with_bias(), tidy(1, 3, 6)


@summary.case(gradients=True)
def two_texts():
    """Two texts of four tokens."""
    return with_bias(), tidy(2, 4, 6)


@summary.case
def one_token():
    """One text that is [CLS] alone."""
    return with_bias(), tidy(1, 1, 6)


@summary.case
def no_pooler():
    """A BERT without a pooler refuses."""
    return Bert(BertConfig(**SIZES, n_layer=1, pooler=False, nsp=False)), tidy(1, 2, 6)


@summary.mistake
def mean_of_all(self, hidden):
    """You take the mean over all tokens, padding included. BERT's pooler was trained on [CLS] alone, at index 0."""
    return torch.tanh(self._head("pooler")(hidden.mean(dim=1)))


@summary.mistake
def last_token(self, hidden):
    """You read the last token, as for a GPT, whose last token has seen all others. In a BERT, [CLS] at index 0 sums up the text. The last token can be padding."""
    return torch.tanh(self._head("pooler")(hidden[:, -1]))


@summary.mistake
def without_tanh(self, hidden):
    """The tanh is missing. The heads above were trained on numbers between -1 and 1."""
    return self._head("pooler")(hidden[:, 0])


@summary.mistake
def without_the_map(self, hidden):
    """You take tanh of [CLS]'s own vector. The pooler's map, W h + b, comes before tanh."""
    self._head("pooler")
    return torch.tanh(hidden[:, 0])


@summary.mistake
def every_token(self, hidden):
    """You pool every token, (B, T, C). One token sums up a text: hidden[:, 0], (B, C)."""
    return torch.tanh(self._head("pooler")(hidden))


@summary.mistake
def first_text(self, hidden):
    """You take index 0 of the batch, which is the first text. Take index 0 of each text: hidden[:, 0], not hidden[0]."""
    return torch.tanh(self._head("pooler")(hidden[0]))


@summary.mistake
def second_token(self, hidden):
    """You read the token after [CLS]. Places count from 0: hidden[:, 0]."""
    return torch.tanh(self._head("pooler")(hidden[:, 1]))


@summary.mistake
def largest_of_all(self, hidden):
    """You take the largest number over all tokens. BERT's pooler was trained on [CLS] alone, at index 0."""
    return torch.tanh(self._head("pooler")(hidden.max(dim=1).values))


@summary.mistake
def tanh_before_the_map(self, hidden):
    """You take tanh first and map then. It is tanh(W h + b), so the map comes first."""
    return self._head("pooler")(torch.tanh(hidden[:, 0]))


@summary.mistake
def without_bias(self, hidden):
    """You multiply by W and leave b out. The map has both, and self._head("pooler")(…) adds b."""
    return torch.tanh(hidden[:, 0] @ self._head("pooler").weight.T)


@summary.mistake
def matrix_the_wrong_way_round(self, hidden):
    """You compute h @ W. nn.Linear stores W as (out, in), so W h is h @ W.T. self._head("pooler")(…) does it right."""
    return torch.tanh(hidden[:, 0] @ self._head("pooler").weight + self.pooler.bias)


@summary.mistake
def token_axis_left(self, hidden):
    """You return (B, 1, C), because hidden[:, :1] keeps the axis of the tokens. An index removes it: hidden[:, 0]."""
    return torch.tanh(self._head("pooler")(hidden[:, :1]))


@summary.mistake
def sigmoid_in_place_of_tanh(self, hidden):
    """You use a sigmoid, whose numbers lie between 0 and 1. The heads above were trained on the numbers of tanh, between -1 and 1."""
    return torch.sigmoid(self._head("pooler")(hidden[:, 0]))


@summary.mistake
def missing_pooler_not_refused(self, hidden):
    """If there is no pooler, your code fails with an error of Python. self._head("pooler") refuses in a clear sentence."""
    return torch.tanh(self.pooler(hidden[:, 0]))
