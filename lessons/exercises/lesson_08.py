"""Exercises of lesson 8: virtual tokens, their vectors, prompt tuning, P-tuning's encoder, and the nearest words."""

import torch
import torch.nn.functional as F
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.course.workbook.costs import calls
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from minitransformer.tuning import PTuning, attached

SIZES = {"vocab_size": 9, "n_positions": 12, "n_head": 2, "d_model": 4, "d_ff": 6, "init_std": 0.5}


def small_gpt():
    """A GPT of two layers."""
    return GPT(GPTConfig(**SIZES, n_layer=2))


def small_bert():
    """A BERT of one layer."""
    return Bert(BertConfig(**SIZES, n_layer=1))


def small_seq2seq():
    """An encoder–decoder of one layer each."""
    config = Seq2SeqConfig(
        **SIZES, n_encoder_layer=1, n_decoder_layer=1, pad_id=0, start_id=1, end_id=2
    )
    return Seq2Seq(config)


# ---------------------------------------------------------------- 8.1

numbers = Exercise(
    id="8.1",
    target="minitransformer.tuning.virtual:virtual_ids",
    title="Ids that no word has",
    minutes=5,
    difficulty=1,
    purpose="Virtual tokens stand in a text among the words, so they need ids. The ids from 0 on belong to the vocabulary. This "
    "function gives virtual token number 0 the id -1, number 1 the id -2, and so on.",
    hints=(
        "All ids of words are 0 or more. Which numbers are left, and which of them comes first?",
        "Token number i has the id -1 - i; the numbers run from 0 to length - 1.",
        "    [-1 - i for i in range(length)]",
    ),
    oracle=lambda length: list(range(-1, -length - 1, -1)),
)


@numbers.case
def one():
    """One virtual token."""
    return 1


@numbers.case
def three():
    """Three virtual tokens."""
    return 3


@numbers.case
def none_at_all():
    """No virtual token: an empty list."""
    return 0


@numbers.mistake
def from_zero_on(length):
    """Your first virtual token has the id 0. That is a word, so the model would read the word in place of your vector. Begin at -1."""
    return [-i for i in range(length)]


@numbers.mistake
def ids_of_words(length):
    """Your ids are 0, 1, 2, …: the first words of the vocabulary. A virtual token has no row in the table of embeddings; its id is negative."""
    return list(range(length))


@numbers.mistake
def positive(length):
    """Your ids are positive, and so words of the vocabulary. Virtual token i has the id -1 - i."""
    return [1 + i for i in range(length)]


@numbers.mistake
def last_one_first(length):
    """Your ids run backwards, so the first place of the text would get the last vector. Token number 0 has the id -1 and stands first."""
    return list(range(-length, 0))


@numbers.mistake
def one_id_for_all(length):
    """All your virtual tokens have the same id, so they would all get the same vector. Give each its own id: -1, -2, -3, …"""
    return [-1] * length


@numbers.mistake
def one_too_many(length):
    """You give one id more than there are virtual tokens; for the last there is no vector. range(length) has `length` numbers."""
    return [-1 - i for i in range(length + 1)]


@numbers.mistake
def begins_at_minus_two(length):
    """Your first id is -2, which is virtual token number 1: number 0 has the id -1."""
    return [-2 - i for i in range(length)]


@numbers.mistake
def no_list(length):
    """You return a range. The numbers are right, but the ids are joined to a list of words' ids. Return list(…)."""
    return range(-1, -length - 1, -1)


@numbers.mistake
def one_too_few(length):
    """You stop one too early. There are `length` virtual tokens, and the last one has the id -length."""
    return [-i for i in range(1, length)]


# ---------------------------------------------------------------- 8.2


def look_up_by_loop(words, ids, vectors):
    """Place by place."""
    rows = []
    for b, row in enumerate(ids.tolist()):
        own = vectors[b] if vectors.dim() == 3 else vectors  # (P, C)
        rows.append(torch.stack([own[-1 - i] if i < 0 else words[b, t] for t, i in enumerate(row)]))
    return torch.stack(rows)


lookup = Exercise(
    id="8.2",
    target="minitransformer.models.layers:virtual_embeddings",
    title="Vectors among the words",
    minutes=15,
    difficulty=2,
    purpose="A model reads words only as vectors. A soft prompt consists of vectors that belong to no word: X = [P; E(input)]. This function "
    "puts the vectors of the virtual tokens in their places in the text. The model has already looked up the words, with a stand-in word in the "
    "place of each virtual token, and has refused wrong input.",
    given=(
        "ids < 0: True at the virtual tokens; -1 stands for vector number 0, -2 for number 1, and so on.",
        "torch.where(condition, a, b): a where the condition is True, b elsewhere; the last axes are lined up.",
    ),
    hints=(
        "First make a vector for each place as if all tokens were virtual. Then choose for each place between this vector and the word's.",
        "A virtual token stands for vector number -1 - id. At words take any number, such as 0: clamp(min=0). If all rows have the same vectors, "
        "vectors[number] is (B, T, C). If each row has its own, (B, n_virtual, C), you also need an index for the row: (B, 1), the numbers of the rows.",
        "    number = (-1 - ids).clamp(min=0)\n"
        "    rows = torch.arange(len(ids))[:, None]\n"
        "    chosen = vectors[number] if vectors.dim() == 2 else vectors[rows, number]\n"
        "    # torch.where chooses chosen at ids < 0, words elsewhere; the condition needs an axis for the columns",
    ),
    oracle=look_up_by_loop,
)


def text(*rows, C=3):
    """The words of a text, as if word 0 stood at the virtual tokens, and its ids."""
    ids = torch.tensor(rows)
    return tidy(4, C)[ids.clamp(min=0)], ids


@lookup.case
def one_virtual_one_word():
    """One virtual token before one word, vectors of three numbers."""
    return *text([-1, 2]), tidy(1, 3)


@lookup.case
def two_before_words():
    """Two virtual tokens before two words."""
    return *text([-1, -2, 3, 0]), tidy(2, 3)


@lookup.case
def inside_a_template():
    """Virtual tokens among the words of two texts, in another order."""
    return *text([1, -2, 3, -1, 2], [-1, 2, -2, -3, 0]), tidy(3, 3)


@lookup.case
def more_vectors_than_needed():
    """A text that leaves two of the vectors out."""
    return *text([-1, 3, -2], C=2), tidy(4, 2)


@lookup.case
def vectors_of_their_own():
    """Two texts, each with two vectors of its own."""
    return *text([-1, -2, 3], [1, -2, -1]), tidy(2, 2, 3)


@lookup.case
def words_alone():
    """A text without virtual tokens."""
    return *text([1, 3, 2]), tidy(2, 3)


@lookup.case
def one_of_them_twice():
    """A virtual token that stands in a text twice."""
    return *text([-2, 1, -2, -1], [2, -1, -1, 3]), tidy(2, 3)


@lookup.case
def no_number_in_their_place():
    """Where the virtual token stands, the words hold nan."""
    words, ids = text([2, -1])
    words[0, 1] = torch.nan
    return words, ids, tidy(1, 3)


@lookup.case(gradients=True)
def the_vectors_learn():
    """The gradients of the vectors and of the words."""
    return *text([-1, -2, 3], [-1, -2, 2]), tidy(2, 3)


def wrong_lookup(choose, join=lambda virtual, chosen, words: torch.where(virtual, chosen, words)):
    """The function as a learner would write it, with one thing in it replaced."""

    def virtual_embeddings(words, ids, vectors):
        rows = torch.arange(len(ids))[:, None] if vectors.dim() == 3 else None
        chosen = choose(vectors, ids, (-1 - ids).clamp(min=0), rows)
        return join((ids < 0)[..., None], chosen, words)

    return virtual_embeddings


def by_number(vectors, ids, number, rows):
    """What is right."""
    return vectors[number] if rows is None else vectors[rows, number]


@lookup.mistake
def negative_index(*arguments):
    """You use the ids themselves as indices. In PyTorch -1 means the last row, so your vectors come in reverse order; virtual token -1 stands for vector number 0: -1 - id."""

    def choose(vectors, ids, number, rows):
        last = ids.clamp(max=-1)
        return vectors[last] if rows is None else vectors[rows, last]

    return wrong_lookup(choose)(*arguments)


@lookup.mistake
def in_order_of_the_text(*arguments):
    """You use the vectors in the order in which virtual tokens stand in the text. But the id says which vector is meant, wherever the token stands: use number."""

    def choose(vectors, ids, number, rows):
        order = ((ids < 0).cumsum(1) - 1).clamp(min=0)
        return by_number(vectors, ids, order, rows)

    return wrong_lookup(choose)(*arguments)


@lookup.mistake
def first_row_for_all(*arguments):
    """Where each row of the batch has vectors of its own, you use those of the first row for all rows. Use vectors[rows, number], with rows (B, 1)."""

    def choose(vectors, ids, number, rows):
        return vectors[number] if rows is None else vectors[0][number]

    return wrong_lookup(choose)(*arguments)


@lookup.mistake
def word_zero_in_their_place(*arguments):
    """Your virtual tokens still have the vector of a word. That word was only a stand-in for looking up E. torch.where has to choose your vectors there."""
    return wrong_lookup(by_number, lambda virtual, chosen, words: words)(*arguments)


@lookup.mistake
def added_to_a_word(*arguments):
    """You add your vector to the vector of the stand-in word. A virtual token has only its own vector."""
    return wrong_lookup(by_number, lambda virtual, chosen, words: words + virtual * chosen)(
        *arguments
    )


@lookup.mistake
def choice_turned_round(*arguments):
    """You choose the wrong way round: words at the virtual tokens, and vectors at the words. The order is torch.where(condition, if true, if false)."""
    return wrong_lookup(
        by_number, lambda virtual, chosen, words: torch.where(virtual, words, chosen)
    )(*arguments)


@lookup.mistake
def added_everywhere(*arguments):
    """You add both vectors everywhere. At each place only one of the two is right: choose with torch.where."""
    return wrong_lookup(by_number, lambda virtual, chosen, words: words + chosen)(*arguments)


@lookup.mistake
def no_axis_for_the_columns(*arguments):
    """You choose by ids < 0, (B, T), among vectors (B, T, C): PyTorch lines up the last axes, T with C. (ids < 0)[..., None] is (B, T, 1), and chooses whole vectors."""
    return wrong_lookup(
        by_number, lambda virtual, chosen, words: torch.where(virtual[..., 0], chosen, words)
    )(*arguments)


@lookup.mistake
def words_overwritten(words, ids, vectors):
    """You write the vectors into the tensor that you were given, so the caller's words are lost. torch.where makes a new tensor."""
    right = wrong_lookup(by_number)(words, ids, vectors)
    with torch.no_grad():
        words.copy_(right)
    return words


@lookup.mistake
def each_not_looked_at(*arguments):
    """Where each row has vectors of its own, (B, n_virtual, C), vectors[number] takes number for the numbers of rows. There a first index tells the row: vectors[rows, number], rows (B, 1)."""
    return wrong_lookup(lambda vectors, ids, number, rows: vectors[number])(*arguments)


@lookup.mistake
def every_number_of_every_row(*arguments):
    """vectors[:, number] takes the numbers of all texts from each row, (B, B, T, C). Row b's numbers belong to row b alone: an index for the rows, (B, 1), in place of the colon."""
    return wrong_lookup(
        lambda vectors, ids, number, rows: vectors[number] if rows is None else vectors[:, number]
    )(*arguments)


@lookup.mistake
def rows_in_a_line(*arguments):
    """Your index of the rows is (B), and meets number, (B, T): PyTorch lines up B with T. As a column, (B, 1), it is one number for each text."""
    return wrong_lookup(
        lambda vectors, ids, number, rows: by_number(
            vectors, ids, number, None if rows is None else rows[:, 0]
        )
    )(*arguments)


@lookup.mistake
def detached_vectors(*arguments):
    """Your vectors enter without their gradient (detach, .data, torch.tensor). Prompt tuning trains nothing else, so it could never learn."""
    return wrong_lookup(
        by_number, lambda virtual, chosen, words: torch.where(virtual, chosen.detach(), words)
    )(*arguments)


# ---------------------------------------------------------------- 8.3

prompt = Exercise(
    id="8.3",
    target="minitransformer.tuning.prompt:PromptTuning.put_in",
    title="Prompt tuning",
    minutes=30,
    difficulty=3,
    purpose="Prompt tuning puts P trained vectors in front of the embedded text, X = [P; E(input)]. You write what happens before each call of the base. You get "
    "`inputs`, its arguments by name, and return the arguments for the call. Those that have a column for each token get P columns more, and "
    "`vectors` says what the virtual tokens stand for. (Their outputs are cut off afterwards; that is already written.)",
    hints=(
        "Two kinds of calls: the first of a text (is_prefill), when the virtual tokens go in, and the later ones of a "
        "cached generation, when the cache has them. Only the mask has to be as wide as all that is cached, at every call.",
        "At the first call four tensors get P columns more: the text (with virtual_ids), the mask (ones: they may be seen), `types` "
        '(zeros), and `at`, if the text is `ids` (zeros: nobody asks there). And "vectors" says what the virtual tokens are. '
        "Refuse first: then the text still has what the caller gave.",
        "    new = {mask: torch.ones(P)}\n"
        '    if is_prefill(inputs.get("cache")):\n'
        '        check_not_given(self, inputs, ["vectors"])\n'
        "        check_no_virtual(inputs.get(text))\n"
        "        new[text] = torch.tensor(virtual_ids(P))\n"
        '        # "types" with torch.zeros(P); so too "at" if text is "ids"\n'
        '        inputs = {**inputs, "vectors": self.vectors()}\n'
        "    return insert_columns(inputs, new, start)",
    ),
    given=(
        "self.length: P.",
        "self.vectors(): what the virtual tokens stand for, (P, C).",
        "virtual_ids(P): the ids of P virtual tokens, a list.",
        "is_prefill(cache): True without a cache (None), and while the cache is empty.",
        "insert_columns(inputs, new, start): puts columns into tensors, in front of column `start`. `new` has for an argument's name its P new columns; an argument that is not given stays away. It gives a new dictionary.",
        "check_not_given(self, inputs, names): refuses what the caller gives under one of these names; None counts as not given.",
        "check_no_virtual(ids): refuses a text that has virtual tokens of its own.",
    ),
    tolerance=1e-4,
)


def call(base, *arguments, **inputs):
    """What a base is given with all that is on it, and what comes out."""
    given = {}

    def note(module, args, inputs):
        given.update(
            {
                f"given: {name}": value.clone()
                for name, value in inputs.items()
                if isinstance(value, torch.Tensor)
            }
        )

    handle = base.register_forward_pre_hook(note, with_kwargs=True)
    output = base(*arguments, **inputs)
    handle.remove()
    return {**given, "output": output}


@prompt.scene
def one_virtual_token(PromptTuning):
    """A GPT, two words, one virtual token."""
    base = small_gpt()
    with attached(base, PromptTuning(1)):
        return call(base, torch.tensor([[3, 5]]))


@prompt.scene
def a_batch(PromptTuning):
    """Two texts of three words, two virtual tokens."""
    base = small_gpt()
    with attached(base, PromptTuning(2)):
        return call(base, torch.tensor([[3, 5, 1], [2, 7, 4]]))


@prompt.scene
def beside_padding(PromptTuning):
    """Two texts, one with padding at its left."""
    base, attention_mask = small_gpt(), torch.tensor([[True, True, True], [False, True, True]])
    with attached(base, PromptTuning(2)):
        return call(base, torch.tensor([[3, 5, 1], [0, 7, 4]]), attention_mask)


@prompt.scene
def asked_at_the_last(PromptTuning):
    """Logits at the last word alone, by `at`."""
    base = small_gpt()
    with attached(base, PromptTuning(2)):
        return call(base, torch.tensor([[3, 5, 1]]), at=torch.tensor([[False, False, True]]))


@prompt.scene
def word_by_word(PromptTuning):
    """Written with a cache: two words at first, then one, beside padding."""
    base, attention_mask = small_gpt(), torch.tensor([[False, True, True]])
    cache = base.new_cache()
    with attached(base, PromptTuning(2)):
        first = base(torch.tensor([[3, 5]]), attention_mask[:, :2], cache=cache)
        then = base(torch.tensor([[1]]), attention_mask, cache=cache)
    return {
        "scores of the first call": first,
        "scores of the second call": then,
        "columns in the cache": cache[0].length,
    }


@prompt.scene
def what_learns(PromptTuning):
    """The gradient of the vectors, and the parts of the base that have one."""
    base, method = small_gpt(), PromptTuning(2)
    with attached(base, method):
        base(torch.tensor([[3, 5, 1]])).square().sum().backward()
        trained = [name for name, p in base.named_parameters() if p.grad is not None]
    return {
        "parts of the base that have a gradient": trained,
        "gradient of the vectors": method.free.grad,
    }


@prompt.scene
def in_a_bert(PromptTuning):
    """A BERT: [CLS] stays in front, and types are lengthened."""
    base = small_bert()
    with attached(base, PromptTuning(2)):
        return call(base, torch.tensor([[8, 5, 1]]), types=torch.tensor([[0, 1, 1]]))


@prompt.scene
def in_an_encoder(PromptTuning):
    """An encoder–decoder: before the source, so that no output is at a virtual token."""
    base = small_seq2seq()
    with attached(base, PromptTuning(2)):
        return call(base, torch.tensor([[1, 4]]), source=torch.tensor([[3, 5, 7]]))


@prompt.scene
def in_an_encoder_beside_padding(PromptTuning):
    """An encoder–decoder whose second source is padded; logits at the last place of the target alone."""
    base, attention_mask = small_seq2seq(), torch.tensor([[True, True, True], [True, True, False]])
    with attached(base, PromptTuning(2)):
        return call(
            base,
            torch.tensor([[1, 4], [1, 6]]),
            source=torch.tensor([[3, 5, 7], [8, 4, 0]]),
            source_mask=attention_mask,
            at=torch.tensor([[False, True], [False, True]]),
        )


@prompt.scene
def none_said_outright(PromptTuning):
    """Called with at=None and attention_mask=None, as if neither were given."""
    base = small_gpt()
    with attached(base, PromptTuning(2)):
        return base(torch.tensor([[3, 5, 1]]), attention_mask=None, at=None)


@prompt.scene
def a_text_with_its_own(PromptTuning):
    """A text that has virtual tokens already is refused."""
    base = small_gpt()
    with attached(base, PromptTuning(2)):
        return base(torch.tensor([[-1, 3]]))


@prompt.scene
def a_source_with_its_own(PromptTuning):
    """An encoder–decoder's source that has virtual tokens already is refused."""
    base = small_seq2seq()
    with attached(base, PromptTuning(2)):
        return base(torch.tensor([[1, 4]]), source=torch.tensor([[3, -1]]))


@prompt.scene
def vectors_beside(PromptTuning):
    """Vectors given beside the prompt's are refused."""
    base = small_gpt()
    with attached(base, PromptTuning(2)):
        return base(torch.tensor([[4, 3]]), vectors=torch.zeros(2, 4))


@prompt.scene
def arguments_stay(PromptTuning):
    """The arguments that were given are the caller's, and stay as they are."""
    base, method, inputs = small_gpt(), PromptTuning(2), {"ids": torch.tensor([[3, 5]])}
    with attached(base, method):
        given = method.put_in(inputs, "ids", "attention_mask", 0)
    return {
        "names that were given": sorted(inputs),
        "ids that were given": inputs["ids"],
        "names of the new arguments": sorted(given),
    }


@prompt.scene
def vectors_made_once(PromptTuning):
    """Three calls of a generation with a cache: only the first needs the vectors."""
    base, method = small_gpt(), PromptTuning(2)
    cache = base.new_cache()
    with attached(base, method), calls(method, "vectors") as seen, torch.no_grad():
        for token in (3, 5, 1):
            base(torch.tensor([[token]]), cache=cache)
    return {"the vectors are made no more than once": len(seen) <= 1}


prompt.slip(
    "the target checked",
    "You look for virtual tokens in `ids`. In an encoder–decoder the prompt stands before the source: the name of the text is in `text`.",
    ("check_no_virtual(inputs.get(text))", 'check_no_virtual(inputs.get("ids"))'),
)
prompt.slip(
    "at forgotten",
    "`at` says at which places of `ids` something is asked, and there are P places more now: lengthen it by zeros, for nothing is asked at a virtual "
    "token.",
    ('new["at"] = torch.zeros(P)', "pass"),
)
prompt.slip(
    "asked at the virtual tokens",
    "You lengthen `at` by ones, so you ask for outputs at the virtual tokens. No outputs are wanted there: use zeros.",
    ('new["at"] = torch.zeros(P)', 'new["at"] = torch.ones(P)'),
)
prompt.slip(
    "at of the target lengthened",
    "In an encoder–decoder `at` marks places of the target, and the virtual tokens stand in the source: there it stays as it is.",
    ('if text == "ids":', "if True:"),
)
prompt.slip(
    "ids, whatever the text is called",
    "You put the virtual tokens into `ids`. In an encoder–decoder these are the target's; its prompt stands before the source. The name is in "
    "`text`.",
    ("new[text] = ", 'new["ids"] = '),
)
prompt.slip(
    "attention_mask, whatever the mask is called",
    "You lengthen `attention_mask`. In an encoder–decoder that is the target's mask; the source's is source_mask. The name is in `mask`.",
    ("new = {mask: torch.ones(P)}", 'new = {"attention_mask": torch.ones(P)}'),
)
prompt.slip(
    "types of sentence B",
    "You give the virtual tokens type 1, that of a second sentence. They belong to the first: zeros.",
    ('new["types"] = torch.zeros(P)', 'new["types"] = torch.ones(P)'),
)
prompt.slip(
    "no vectors",
    'You put negative ids into the text and do not say what they stand for: "vectors" is self.vectors().',
    ('inputs = {**inputs, "vectors": self.vectors()}', "pass"),
)
prompt.slip(
    "in front of [CLS]",
    "You put the virtual tokens in front of everything. In a BERT [CLS] stays in front, because the pooler reads it there. Insert them at column `start`.",
    ("insert_columns(inputs, new, start)", "insert_columns(inputs, new, 0)"),
)
prompt.slip(
    "behind the first word",
    "You put the virtual tokens behind the first token in every model. Only a BERT has [CLS] there. `start` says where they belong.",
    ("insert_columns(inputs, new, start)", "insert_columns(inputs, new, 1)"),
)
prompt.slip(
    "a cache that is not given",
    '`inputs` has only what the caller gave, and mostly that is no cache: inputs["cache"] fails. inputs.get("cache") is None then.',
    ('first = is_prefill(inputs.get("cache"))', 'first = is_prefill(inputs["cache"])'),
)
prompt.slip(
    "never with a cache",
    "Wherever there is a cache you put nothing in. At the first call of a generation the cache is there and still empty, and that is when the prompt goes "
    "in: is_prefill looks whether it is.",
    ('first = is_prefill(inputs.get("cache"))', 'first = inputs.get("cache") is None'),
)
prompt.slip(
    "own tokens refused",
    "You look for virtual tokens after you have put yours in, so you refuse your own. check_no_virtual must look at what the caller gave: call it first.",
    (
        "check_no_virtual(inputs.get(text))",
        "check_no_virtual(insert_columns(inputs, {text: torch.tensor(virtual_ids(P))}, start).get(text))",
    ),
)
prompt.slip(
    "own vectors refused",
    "You look for vectors after you have put yours in, so you refuse your own. check_not_given must look at what the caller gave: call it first.",
    (
        'check_not_given(self, inputs, ["vectors"])',
        'check_not_given(self, {"vectors": self.free}, ["vectors"])',
    ),
)
prompt.slip(
    "virtual tokens not refused",
    "You accept a text that has virtual tokens of its own. They would get your vectors. Call check_no_virtual, which refuses such a text.",
    ("check_no_virtual(inputs.get(text))", "pass"),
)
prompt.slip(
    "vectors not refused",
    "You silently replace vectors that the caller gave. Call check_not_given, which refuses them.",
    ('check_not_given(self, inputs, ["vectors"])', "pass"),
)
prompt.slip(
    "prompt masked out",
    "Your virtual tokens have zeros in the mask, like padding. So where texts are padded, no token sees the prompt. Use ones.",
    ("new = {mask: torch.ones(P)}", "new = {mask: torch.zeros(P)}"),
)
prompt.slip(
    "mask of the text alone",
    "You do not lengthen the mask. It needs a value for every column, and the prompt adds P columns. Use ones, because the prompt can be seen.",
    ("new = {mask: torch.ones(P)}", "new = {}"),
)
prompt.slip(
    "mask lengthened only once",
    "At later calls of a cached generation the mask still has a column for each token so far, and the virtual tokens are among them: lengthen it "
    "at every call, not at the first alone.",
    ("new = {mask: torch.ones(P)}", "new = {mask: torch.ones(P)} if first else {}"),
)
prompt.slip(
    "put in at every call",
    "Every call puts the prompt in again. In a cached generation only the first call may do so, because the cache keeps the virtual tokens, as it keeps words.",
    ("if first:", "if True:"),
)
prompt.slip(
    "words in front",
    "You put the ids 0, 1, … in front: words of the vocabulary. Then the base reads these, and your vectors not at all. virtual_ids(P).",
    ("torch.tensor(virtual_ids(P))", "torch.arange(P)"),
)
prompt.slip(
    "detached",
    "Your vectors enter without their gradient (detach, .data, no_grad). Nothing else is trained, so nothing can learn.",
    ('"vectors": self.vectors()}', '"vectors": self.vectors().detach()}'),
)
prompt.slip(
    "types forgotten",
    "A BERT's `types` have one number for each token: where the text gets P columns more, they do, too (zeros).",
    ('new["types"] = torch.zeros(P)', "pass"),
)
prompt.slip(
    "the caller's arguments changed",
    "You write into `inputs`. Whoever called still has this dictionary, and finds your vectors in it at the next call: make a new one, {**inputs, …}.",
    ('inputs = {**inputs, "vectors": self.vectors()}', 'inputs["vectors"] = self.vectors()'),
)
prompt.slip(
    "vectors made at every call",
    "You make the vectors at every call. In a generation only the first call needs them, and with P-tuning they are the work of an LSTM: call self.vectors() only where the virtual tokens go in.",
    ("P = self.length\n", "P, vectors = self.length, self.vectors()\n"),
    ('"vectors": self.vectors()}', '"vectors": vectors}'),
)
prompt.slip(
    "nothing refused",
    "A text that brings virtual tokens of its own, or vectors given beside yours, are not refused: they would be mixed up silently. "
    "check_not_given and check_no_virtual say so in a sentence.",
    ('check_not_given(self, inputs, ["vectors"])', "pass"),
    ("check_no_virtual(inputs.get(text))", "pass"),
)
prompt.slip(
    "nothing returned",
    "You make the new arguments and do not return them: return insert_columns(…).",
    ("return insert_columns", "insert_columns"),
)

# ---------------------------------------------------------------- 8.4


def encoded_by_loop(self):
    """LSTM and MLP step by step (their formulas are those of nn.LSTM's page)."""
    if not self.encoder:
        return self.free
    x = (self.free - self.free.mean(1, keepdim=True)) / (
        self.free.var(1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    for layer in range(2):
        ways = []
        for way in ("", "_reverse"):
            w, u, b, c = (
                getattr(self.lstm, f"{name}_l{layer}{way}")
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h = cell = torch.zeros(u.size(1))
            states = []
            for row in x.flip(0) if way else x:
                i, f, g, o = (w @ row + b + u @ h + c).chunk(4)
                cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
                h = o.sigmoid() * cell.tanh()
                states.append(h)
            ways.append(torch.stack(states[::-1] if way else states))
        x = torch.cat(ways, dim=1)
    return (x @ self.mlp[0].weight.T + self.mlp[0].bias).relu() @ self.mlp[2].weight.T + self.mlp[
        2
    ].bias


encoder = Exercise(
    id="8.4",
    target="minitransformer.tuning.prompt:PTuning.vectors",
    title="P-tuning's encoder",
    minutes=15,
    difficulty=2,
    purpose="P-tuning does not train the vectors of the virtual tokens directly. It trains other vectors (`self.free`) and a small network that makes them. An LSTM "
    "reads the P rows as one text, in both directions, so each row depends on all others. An MLP turns each state (2·C) into a vector (C). "
    "An LSTM expects numbers of size 1, and embeddings are smaller. So each row is normalised first (layer_norm without weights). If "
    "self.encoder is False there is no network, and self.free itself is the answer.",
    hints=(
        "If there is no encoder, return self.free at once. Otherwise there are three steps: normalise each row, LSTM, MLP.",
        "F.layer_norm(x, x.shape[-1:]) normalises rows. The LSTM wants (batch, length, width): one text of P tokens is (1, P, C). It "
        "returns a pair: its outputs at every token, and its last states. You need the outputs.",
        "Without encoder, self.free.\n"
        "    read = F.layer_norm(self.free, self.free.shape[-1:])\n"
        "    outputs, _ = self.lstm(read[None])\n"
        "    return self.mlp(outputs[0])",
    ),
    given=(
        "self.free: the trained vectors, (P, C).",
        "self.encoder: whether there is a network.",
        "self.lstm(text): of one text (1, P, C) its outputs (1, P, 2·C), and its last states.",
        "self.mlp(states): C numbers of each 2·C.",
        "F.layer_norm(x, x.shape[-1:]): each row with mean 0 and variance 1.",
    ),
    oracle=encoded_by_loop,
)


def p_tuning(length, **how):
    """P-tuning with its parameters made."""
    method = PTuning(length, **how)
    with torch.no_grad():
        method.build(small_gpt())
    return method


@encoder.case
def without_encoder():
    """No encoder: the trained vectors themselves."""
    return p_tuning(2, encoder=False)


@encoder.case
def one_token():
    """One virtual token."""
    return p_tuning(1)


@encoder.case
def three_tokens():
    """Three virtual tokens, begun as words."""
    return p_tuning(3, init=[4, 1, 6])


@encoder.case
def from_random():
    """Five virtual tokens, begun at random."""
    return p_tuning(5, init="random")


@encoder.scene
def which_parts_learn(PTuning):
    """Which of its parts get a gradient, and the table's."""
    method = p_tuning(3)
    method.vectors().square().sum().backward()
    return {
        "parts that have a gradient": sorted(
            {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None}
        ),
        "gradient of the table": method.free.grad,
    }


@encoder.scene
def the_table_learns_alone(PTuning):
    """The table's gradient where there is no encoder."""
    method = p_tuning(3, encoder=False)
    method.vectors().square().sum().backward()
    return method.free.grad


def rows_normalised(table):
    """What the LSTM reads."""
    return F.layer_norm(table, table.shape[-1:])


@encoder.mistake
def not_normalised(self):
    """Your LSTM reads the table as it is. Embeddings are small numbers, so its gates hardly react, and all virtual tokens become nearly alike. layer_norm makes the numbers of size 1."""
    return self.mlp(self.lstm(self.free[None])[0][0]) if self.encoder else self.free


@encoder.mistake
def each_alone(self):
    """You give the LSTM P texts of one token, (P, 1, C), so no virtual token knows its neighbours. Give it one text of P tokens: (1, P, C)."""
    return (
        self.mlp(self.lstm(rows_normalised(self.free)[:, None])[0][:, 0])
        if self.encoder
        else self.free
    )


@encoder.mistake("without the MLP")
def without_mlp(self):
    """You return the LSTM's states. They come from both ends, so each has 2·C numbers. An embedding has C numbers; the MLP makes them."""
    return self.lstm(rows_normalised(self.free)[None])[0][0] if self.encoder else self.free


@encoder.mistake
def without_lstm(self):
    """Your MLP reads the LSTM's input, twice side by side, in place of its output. So no virtual token knows its neighbours."""
    return self.mlp(rows_normalised(self.free).repeat(1, 2)) if self.encoder else self.free


@encoder.mistake
def batch_axis_left(self):
    """You return (1, P, C). Only the LSTM needs the axis of the batch; the vectors are (P, C)."""
    return self.mlp(self.lstm(rows_normalised(self.free)[None])[0]) if self.encoder else self.free


@encoder.mistake
def whole_table_normalised(self):
    """You normalise the whole table at once, so a row of small numbers stays small. Normalise each row by itself, over its C numbers."""
    return (
        self.mlp(self.lstm(F.layer_norm(self.free, self.free.shape)[None])[0][0])
        if self.encoder
        else self.free
    )


@encoder.mistake
def length_one(self):
    """You give each row the length 1 (F.normalize): with C numbers each is then about 1/√C. layer_norm makes the numbers themselves of size 1: mean 0, variance 1."""
    return (
        self.mlp(self.lstm(F.normalize(self.free, dim=-1)[None])[0][0])
        if self.encoder
        else self.free
    )


@encoder.mistake("spread over C - 1")
def spread_over_one_less(self):
    """You divide by the standard deviation that statisticians estimate, over C - 1 numbers. layer_norm's is over C: unbiased=False."""
    centred = self.free - self.free.mean(-1, keepdim=True)
    return (
        self.mlp(self.lstm((centred / self.free.std(-1, keepdim=True))[None])[0][0])
        if self.encoder
        else self.free
    )


@encoder.mistake
def last_states(self):
    """You take the LSTM's last states, which sum up the whole text in one vector. Each virtual token has an output of its own. The outputs are the first of the two things that the LSTM returns."""
    if not self.encoder:
        return self.free
    states = self.lstm(rows_normalised(self.free)[None])[1][0]
    return self.mlp(torch.cat([states[-2], states[-1]], dim=-1))


@encoder.mistake
def outputs_and_states(self):
    """An LSTM returns a pair, its outputs and its last states, and you pass on both. Write outputs, _ = self.lstm(…)."""
    return self.mlp(self.lstm(rows_normalised(self.free)[None])) if self.encoder else self.free


@encoder.mistake
def table_normalised_in_any_case(self):
    """You normalise the table also where there is no encoder. There the rows of the table are the vectors: return it as it is."""
    read = rows_normalised(self.free)
    return self.mlp(self.lstm(read[None])[0][0]) if self.encoder else read


@encoder.mistake
def encoder_in_any_case(self):
    """You use the LSTM where there is none. After loading from a file, the encoder is gone (self.encoder is False), and the table itself holds the vectors."""
    return self.mlp(self.lstm(rows_normalised(self.free)[None])[0][0])


@encoder.mistake
def table_added(self):
    """You add the table to what the encoder makes of it. P-tuning's vectors are the encoder's output alone."""
    return (
        self.free + self.mlp(self.lstm(rows_normalised(self.free)[None])[0][0])
        if self.encoder
        else self.free
    )


@encoder.mistake
def a_copy_without_encoder(self):
    """Without an encoder you return a detached copy of the table. Return self.free itself, because nothing else is trained."""
    return (
        self.mlp(self.lstm(rows_normalised(self.free)[None])[0][0])
        if self.encoder
        else self.free.detach().clone()
    )


@encoder.mistake
def table_detached(self):
    """The gradient does not reach the table (detach, .data): the encoder would learn, and what it reads would stay as random as it began."""
    return (
        self.mlp(self.lstm(rows_normalised(self.free.detach())[None])[0][0])
        if self.encoder
        else self.free
    )


# ---------------------------------------------------------------- 8.5


def nearest_by_loop(vectors, base, k=5):
    """Every vector beside every word."""
    found = []
    for vector in vectors:
        cosines = [
            (F.cosine_similarity(vector, row, dim=0).item(), i)
            for i, row in enumerate(base.token_embedding.weight)
        ]
        found.append([(i, cosine) for cosine, i in sorted(cosines, reverse=True)[:k]])
    return found


nearest = Exercise(
    id="8.5",
    target="minitransformer.tuning.prompt:nearest_words",
    title="What the vectors say",
    minutes=15,
    difficulty=2,
    purpose="Can a soft prompt be read? For each vector this function finds the words whose embeddings have the most similar direction. These are the "
    "largest cosines, cos(a, b) = a · b / (|a| |b|), over the whole vocabulary.",
    hints=(
        "The cosine is the dot product of vectors of length 1. So make all of length 1, on both sides, and one matrix product has "
        "all the cosines.",
        "F.normalize(x, dim=-1) makes each row's length 1. (P, C) @ (C, V) is (P, V), and topk(k) gives the k largest of each "
        "row with their places, which are the token ids.",
        "    words = F.normalize(base.token_embedding.weight, dim=-1)\n"
        "    likeness = F.normalize(vectors, dim=-1) @ words.T\n"
        "    cosines, ids = likeness.topk(k)\n"
        "    # of both .tolist(); then pairs (id, cosine) row by row, with zip",
    ),
    given=(
        "base.token_embedding.weight: the vectors of all words, (V, C).",
        "F.normalize(x, dim=-1): each row with length 1.",
        "tensor.topk(k): the k largest of each row, and their places.",
    ),
    oracle=nearest_by_loop,
)


def lexicon(*rows):
    """A base whose words have these vectors."""
    base = GPT(
        GPTConfig(
            **{**SIZES, "vocab_size": len(rows), "d_model": len(rows[0]), "n_head": 1}, n_layer=1
        )
    )
    with torch.no_grad():
        base.token_embedding.weight.copy_(torch.tensor(rows))
    return base


@nearest.case
def one_long_word():
    """One vector; word 1 points where it does, word 0 is long and points elsewhere."""
    return torch.tensor([[1.0, 0.0]]), lexicon([5.0, 9.0], [0.5, 0.1], [-1.0, 0.2]), 1


@nearest.case
def long_vector():
    """Two vectors, the second ten times as long as the word whose direction it has."""
    return (
        torch.tensor([[0.0, 0.3], [20.0, 10.0]]),
        lexicon([2.0, 1.0], [0.1, 2.0], [-1.0, 0.2], [3.0, 4.0]),
        3,
    )


@nearest.case
def of_a_small_gpt():
    """Three random vectors and a random table."""
    return tidy(3, 4), small_gpt(), 4


def wrong_nearest(left, right, largest=True):
    """The function as a learner would write it, with one thing in it replaced."""

    def nearest_words(vectors, base, k=5):
        values, ids = (left(vectors) @ right(base.token_embedding.weight).T).topk(
            k, largest=largest
        )
        return [
            list(zip(*row, strict=True)) for row in zip(ids.tolist(), values.tolist(), strict=True)
        ]

    return nearest_words


def one_long(x):
    """Every row of length 1."""
    return F.normalize(x, dim=-1)


def as_it_is(x):
    """Nothing done."""
    return x


@nearest.mistake
def dot_product(*arguments):
    """You compare by dot products: a long vector is then near to everything, and the same few long words come first for any prompt. Divide by both lengths."""
    return wrong_nearest(as_it_is, as_it_is)(*arguments)


@nearest.mistake
def words_not_normalised(*arguments):
    """The vectors have length 1, the words do not: long words come first. The cosine divides by both lengths."""
    return wrong_nearest(one_long, as_it_is)(*arguments)


@nearest.mistake
def vectors_not_normalised(*arguments):
    """The words have length 1, the vectors do not. The order is right, but these numbers are no cosines: they can be larger than 1, and grow with the vector."""
    return wrong_nearest(as_it_is, one_long)(*arguments)


@nearest.mistake
def normalised_along_the_vocabulary(*arguments):
    """You normalise along the wrong axis: over all words, column by column. Each word's own vector has to have length 1: dim=-1."""
    return wrong_nearest(one_long, lambda x: F.normalize(x, dim=0))(*arguments)


@nearest.mistake
def least_alike_first(*arguments):
    """You return the words that are least alike: smallest cosines first. A cosine of 1 is the same direction, so the largest come first."""
    return wrong_nearest(one_long, one_long, largest=False)(*arguments)


@nearest.mistake
def distance_in_place_of_cosine(vectors, base, k=5):
    """You measure distances. They depend on lengths: a trained vector far from the origin is far from every word. The cosine compares directions only."""
    distances, ids = torch.cdist(vectors, base.token_embedding.weight).topk(k, largest=False)
    return [
        list(zip(*row, strict=True)) for row in zip(ids.tolist(), distances.tolist(), strict=True)
    ]


@nearest.mistake
def cosine_before_id(*arguments):
    """Your pairs stand the other way round: first the token id, then its cosine."""
    return [
        [(cosine, i) for i, cosine in row] for row in wrong_nearest(one_long, one_long)(*arguments)
    ]


@nearest.mistake
def nearest_vectors_of_a_word(vectors, base, k=5):
    """You look along the wrong axis: you find the nearest vectors for each word. Find the nearest words for each vector, with topk along the vocabulary."""
    cosines, ids = (one_long(vectors) @ one_long(base.token_embedding.weight).T).topk(
        min(k, len(vectors)), dim=0
    )
    return [
        list(zip(*row, strict=True)) for row in zip(ids.tolist(), cosines.tolist(), strict=True)
    ]


@nearest.mistake
def either_direction(vectors, base, k=5):
    """You take the absolute value. A word that points the opposite way has the cosine -1 and is the least similar, but with you it comes first."""
    cosines, ids = (one_long(vectors) @ one_long(base.token_embedding.weight).T).abs().topk(k)
    return [
        list(zip(*row, strict=True)) for row in zip(ids.tolist(), cosines.tolist(), strict=True)
    ]


@nearest.mistake
def shares_in_place_of_cosines(vectors, base, k=5):
    """You turn the cosines into fractions by softmax. The order is right, but the cosine itself is wanted, between -1 and 1."""
    shares, ids = (
        (one_long(vectors) @ one_long(base.token_embedding.weight).T).softmax(dim=-1).topk(k)
    )
    return [list(zip(*row, strict=True)) for row in zip(ids.tolist(), shares.tolist(), strict=True)]


@nearest.mistake
def two_lists_for_pairs(*arguments):
    """You give for each vector a list of ids and a list of cosines. They belong in pairs, (id, cosine), one for each word: zip once more, within the row."""
    return [
        tuple(map(list, zip(*row, strict=True)))
        for row in wrong_nearest(one_long, one_long)(*arguments)
    ]


@nearest.mistake
def ids_alone(*arguments):
    """You return the ids without their cosines. Return pairs (id, cosine)."""
    return [[i for i, _ in row] for row in wrong_nearest(one_long, one_long)(*arguments)]


@nearest.mistake
def tensors_in_the_pairs(*arguments):
    """Your pairs hold tensors of one number each. Use Python's int and float: .tolist() converts a whole tensor."""
    return [
        [(torch.tensor(i), torch.tensor(cosine)) for i, cosine in row]
        for row in wrong_nearest(one_long, one_long)(*arguments)
    ]


@nearest.mistake
def best_alone(vectors, base, k=5):
    """You give one word for each vector; k are asked for, the most alike first."""
    return wrong_nearest(one_long, one_long)(vectors, base, 1)
