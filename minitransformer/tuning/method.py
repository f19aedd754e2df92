"""What all tuning methods share: going onto a frozen base and off again, counting, saving, loading (001 §2).

    method = PrefixTuning(length=10).attach(base)     # the base is frozen, and runs with the prefix from here on
    train(base, batches, config)                      # trains what the method brought, and nothing else
    method.save("prefix.safetensors")                 # the tuned part alone
    method.detach()                                   # the base is what it was, bit for bit

A method never changes the base's code. It hooks into its modules, so that the base need not know that it is tuned, and
so that what was hooked in can be taken out without a trace.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from minitransformer.checkpoint import load_tensors, load_weights, save_tensors
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT
from minitransformer.models.seq2seq import Seq2Seq

Base: TypeAlias = GPT | Bert | Seq2Seq

# The convention that a saved prefix was trained under. Another one gives other logits (see `attention`'s contract).
POSITIONS = "a prefix of length P takes positions 0 to P-1, the text starts at P"


class Report(NamedTuple):
    """How much a method trains, and how much of that is kept."""

    method: str
    trained: int  # numbers that training changes, without a classifier's head
    stored: int  # numbers that `save` writes, without a classifier's head
    head: int  # numbers of the classifier's head, which every method trains alike
    base: int  # numbers of the base

    @property
    def trained_share(self) -> float:
        """Of the base."""
        return self.trained / self.base

    @property
    def stored_share(self) -> float:
        """Of the base."""
        return self.stored / self.base

    def __str__(self) -> str:
        """One line for a person."""
        head = f", and a head of {self.head:,}" if self.head else ""
        return (
            f"{self.method}: trains {self.trained:,} numbers ({self.trained_share:.2%} of the base's {self.base:,}) "
            f"and keeps {self.stored:,} ({self.stored_share:.2%}){head}."
        )


def setting(name: str, says: str, check: Callable[[Any], None] = lambda value: None) -> property:
    """A setting that may be changed later, and is saved as it is then: it stands in `Method.settings` alone.

    What the constructor refuses, `check` refuses later too, for `load` calls the constructor.
    """

    def change(method: Method, value: object) -> None:
        check(value)
        method.settings[name] = value

    return property(lambda method: method.settings[name], change, doc=says)


class Attached(nn.ModuleList):
    """The methods on a base, in the order in which they came; it sits in the base as `base.tuning`."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        self.trainable_before = {name for name, p in base.named_parameters() if p.requires_grad}

    def __deepcopy__(self, memo: dict) -> Attached:
        """Refuse: the hooks of the copy would be those of the original.

        Raises:
            UserError: always.
        """
        names = ", ".join(type(method).__name__ for method in self)
        raise UserError(
            f"A {names} is on this base, and a copy's hooks would still run the original's numbers. detach() first and "
            "attach() again afterwards; or save() it, and load() it onto a copy of the bare base."
        )


class Method(nn.Module):
    """One way to tune a base. Subclasses say what they bring (`build`) and where it goes (`install`).

    Args:
        settings: what the constructor was called with, so that `load` can call it again; JSON must be able to say it.
    """

    place: ClassVar[str]  # what of the base it occupies; two methods cannot share a place
    kinds: ClassVar[dict[str, type[Method]]] = {}  # every method by its class name, for `load`
    when_loaded: ClassVar[dict[str, object]] = {}  # settings that say how to begin, where a file has the numbers
    merged = False  # whether its effect stands in the base's weights now; only that of a `Mergeable` can

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make a saved file find its class by name; another class of that name, made later, does not take its place."""
        super().__init_subclass__(**kwargs)
        Method.kinds.setdefault(cls.__name__, cls)

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.settings = settings
        self.fingerprint: str | None = None  # of the base that it was built for
        self.head: nn.Linear | None = None  # of the classifier that it was attached to
        self._handles: list[Any] = []
        self._seat: list[Base] = []  # the base; in a list, for a module in an attribute would become a child

    # ------------------------------------------------------------------- for subclasses

    def build(self, base: Base) -> None:
        """Make the parameters, which depend on the base's sizes."""
        raise NotImplementedError

    def install(self, base: Base) -> Iterable[Any]:
        """Hook into the base; gives the handles whose `remove()` takes the hooks out."""
        raise NotImplementedError

    def uninstall(self, base: Base) -> None:
        """Undo what the handles do not."""

    def stored(self) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
        """What a user of the tuned model needs: settings for the constructor, and tensors for `restore`."""
        return self.settings, self.tensors()

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes, by name, without the head."""
        return {name: p for name, p in self.state_dict().items() if not name.startswith("head.")}

    def restore(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Put tensors back that `tensors` gave."""
        head, self.head = self.head, None
        try:
            load_weights(self, tensors, source)
        finally:
            self.head = head

    # ------------------------------------------------------------------- for everyone

    @property
    def base(self) -> Base | None:
        """The base that it is on, or None."""
        return self._seat[0] if self._seat else None

    def attach(self, model: Base | Classifier) -> Method:
        """Go onto a base, or onto the base of a classifier, whose head is then trained and saved along.

        The base is frozen. At the first time the method's parameters are made (`torch.manual_seed` decides which);
        later it may go onto any base with the same weights.

        Raises:
            UserError: the method is on a base already, the base is another than it was made for, or one of the methods
                on the base occupies the same place.
        """
        name, base = type(self).__name__, base_of(model)
        if self.base is not None:
            raise UserError(f"This {name} is on a base already: detach() it first, or make a second one.")
        check_place(self, base)
        own = fingerprint(base)
        if self.fingerprint not in (None, own):
            raise UserError(
                f"This {name} was made for a base with the fingerprint {self.fingerprint}; this {type(base).__name__} "
                f"has {own}. Its numbers mean nothing to other weights: load the base that it was trained on."
            )
        if self.fingerprint is None:
            with torch.no_grad():
                self.build(base)
        self.fingerprint = own
        if not hasattr(base, "tuning"):
            base.tuning = Attached(base)
            base.requires_grad_(False)
            base.zero_grad()  # a gradient left over from before would count when gradients are clipped
        self.head = model.head if isinstance(model, Classifier) else None
        self.to(next(base.parameters()))  # its device and kind of number
        self.train(base.training)  # a base that does not drop out gets no method that does
        self._seat.append(base)
        base.tuning.append(self)
        self.requires_grad_(True)
        self._handles = list(self.install(base))
        return self

    def detach(self) -> None:
        """Leave the base, which is bit for bit what it was before.

        Raises:
            UserError: it is on no base.
        """
        base = self.base
        if base is None:
            raise UserError(f"This {type(self).__name__} is on no base.")
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.uninstall(base)
        self._seat.clear()
        del base.tuning[list(base.tuning).index(self)]
        if not len(base.tuning):
            trainable_before = base.tuning.trainable_before
            del base.tuning
            for name, p in base.named_parameters():
                p.requires_grad_(name in trainable_before)

    def trainable(self) -> list[nn.Parameter]:
        """What training changes, without the head."""
        return [p for name, p in self.named_parameters() if not name.startswith("head.")]

    def report(self) -> Report:
        """How many numbers are trained and kept, beside the base's.

        `trained` counts the numbers that `trainable` gives (a list), `stored` those of the tensors that `stored` gives
        (a pair: settings, tensors by name), `head` those of self.head (0 where it is None), `base` those that
        base_parameters(base) gives (by name): the base's own, without what methods brought.

        Returns:
            A Report; its `method` is the name of the method's class.

        Raises:
            UserError: it is on no base. (self._need_base("report") gives the base, or refuses.)
        """
        base = self._need_base("report")
        return Report(
            type(self).__name__,
            trained=sum(p.numel() for p in self.trainable()),
            stored=sum(t.numel() for t in self.stored()[1].values()),
            head=sum(p.numel() for p in self.head.parameters()) if self.head else 0,
            base=sum(p.numel() for p in base_parameters(base).values()),
        )

    def save(self, path: str | Path, resume: bool = False) -> None:
        """Write the tuned part alone, with the base's fingerprint and the position convention.

        Args:
            path: a .safetensors file.
            resume: keep what only training needs too (a reparametrisation, say), so that it can go on.

        Raises:
            UserError: it is on no base; the disk is full.
        """
        base = self._need_base("save")
        settings, tensors = (self.settings, self.tensors()) if resume else self.stored()
        head = {f"head.{name}": p for name, p in self.head.state_dict().items()} if self.head else {}
        about = {
            "tuning": type(self).__name__,
            "settings": dict(settings),
            "made_with": self.settings,
            "base": type(base).__name__,
            "base_config": asdict(base.config),
            "fingerprint": self.fingerprint,
            "positions": POSITIONS,
        }
        save_tensors(path, {**tensors, **head}, about)

    def _need_base(self, what: str) -> Base:
        if self.base is None:
            raise UserError(f"This {type(self).__name__} is on no base: attach() it first, then {what}().")
        return self.base


def load(path: str | Path, model: Base | Classifier) -> Method:
    """Read what `save` wrote and attach it.

    Raises:
        UserError: no such file, a damaged one, no tuned part in it, one for another base or another position
            convention, or one with a classifier's head for a model without, or the reverse.
    """
    tensors, about = load_tensors(path)
    kind = Method.kinds.get(about.get("tuning"))
    if kind is None:
        held = about.get("tuning") or about.get("model") or "state of training"
        raise UserError(f"{path} holds a {held}, no tuned part: give a file that a method's save() wrote.")
    if about["positions"] != POSITIONS:
        raise UserError(
            f"{path} was trained under another convention ({about['positions']}); here {POSITIONS}. The same numbers "
            "would give other logits."
        )
    base = base_of(model)
    settings = about["settings"]
    method = kind(**{**settings, **{name: value for name, value in kind.when_loaded.items() if name in settings}})
    check_place(method, base)
    if about["fingerprint"] != fingerprint(base):
        raise UserError(
            f"{path} was tuned on another base: a {about['base']} with the fingerprint {about['fingerprint']}; this "
            f"{type(base).__name__} has {fingerprint(base)}{_difference(base, about)}. Load the base that it was "
            "trained on."
        )
    head = {name.removeprefix("head."): t for name, t in tensors.items() if name.startswith("head.")}
    if bool(head) != isinstance(model, Classifier):
        raise UserError(
            f"{path} {'holds a' if head else 'has no'} classifier's head: load it onto a "
            f"{'Classifier' if head else type(base).__name__}."
        )
    method.attach(model)
    try:
        method.restore({name: t for name, t in tensors.items() if not name.startswith("head.")}, str(path))
        if head:
            load_weights(method.head, head, str(path))
    except UserError:
        method.detach()
        raise
    method.settings = about["settings"]
    return method


def _difference(base: Base, about: Mapping[str, Any]) -> str:
    """In what this base differs from the one that a file speaks of, as far as the file says."""
    if about["base"] != type(base).__name__:
        return ""
    there, here = about["base_config"], asdict(base.config)
    sizes = [key for key, value in here.items() if isinstance(value, int) and there.get(key) != value]
    if not sizes:
        return ", with the same sizes but other weights"
    return f" ({', '.join(f'{key} = {there.get(key)} there, {here[key]} here' for key in sizes)})"


@contextmanager
def attached(model: Base | Classifier, *methods: Method) -> Iterator[None]:
    """Run with these methods on, and take them off at the end, whatever happens."""
    on: list[Method] = []
    try:
        for method in methods:
            on.append(method.attach(model))
        yield
    finally:
        for method in reversed(on):
            if method.base is not None:
                method.detach()


def base_of(model: Base | Classifier) -> Base:
    """The GPT, BERT or encoder–decoder itself.

    Raises:
        UserError: something else.
    """
    base = model.base if isinstance(model, Classifier) else model
    if not isinstance(base, GPT | Bert | Seq2Seq):
        raise UserError(
            f"A method goes onto a GPT, Bert, Seq2Seq or a Classifier of one; this is a {type(model).__name__}."
        )
    return base


def attached_to(model: Base | Classifier) -> list[Method]:
    """The methods that are on this base now."""
    return list(getattr(base_of(model), "tuning", ()))


def check_place(new: Method, base: Base) -> None:
    """Refuse two methods that want the same place, or one beside a method that changes the base itself.

    Raises:
        UserError: naming both.
    """
    for old in attached_to(base):
        if old.merged:
            raise UserError(
                f"A {type(old).__name__} is merged into this base: a {type(new).__name__} would learn on weights that "
                f"are not the base's own. unmerge() the {type(old).__name__} first."
            )
        names = f"{type(new).__name__} and {type(old).__name__}"
        if "base" in (new.place, old.place):
            raise UserError(
                f"{names} cannot be on one base: one of them changes the base's own weights, and what the other "
                f"learned holds for the frozen ones only. detach() the {type(old).__name__} first."
            )
        if new.place == old.place:
            raise UserError(
                f"{names} cannot be on one base: both take the place '{new.place}'. detach() the "
                f"{type(old).__name__} first."
            )


def check_count(name: str, n: int, why: str) -> None:
    """Refuse a size that is no whole number, or one below 1.

    Raises:
        UserError: naming it; `why` says what is wrong with 0.
    """
    if not isinstance(n, int):
        raise UserError(f"{name} = {n!r}: it has to be a whole number.")
    if n < 1:
        raise UserError(f"{name} = {n}: {why}.")


def before_each_call(base: Base, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Let `change` rewrite what the base is called with; gives the hook's handle.

    Args:
        base: the model.
        change: from inputs to inputs, each by the name of `forward`'s argument, however the caller wrote the call.
    """
    signature = inspect.signature(base.forward)

    def hook(module: nn.Module, args: tuple, inputs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return (), change(signature.bind(*args, **inputs).arguments)

    return base.register_forward_pre_hook(hook, with_kwargs=True)


def check_not_given(method: Method, inputs: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse inputs that a method on the base is there to fill.

    Raises:
        UserError: naming the input and the method.
    """
    for name in names:
        if inputs.get(name) is not None:
            raise UserError(
                f"'{name}' was given to a base that a {type(method).__name__} is on, which fills it itself: there "
                "would be two. detach() the method, or leave the argument out."
            )


def base_parameters(base: Base) -> dict[str, nn.Parameter]:
    """The base's own parameters, without what methods brought."""
    return {name: p for name, p in base.named_parameters() if not name.startswith("tuning.")}


def fingerprint(base: Base) -> str:
    """A short name for exactly this function: SHA-256 over architecture, sizes, heads and every number."""
    # The shapes of the weights do not say how many heads they are cut into.
    digest = hashlib.sha256(f"{type(base).__name__} {base.config.n_head}".encode())
    for name, tensor in sorted(base.state_dict().items()):
        if not name.startswith("tuning."):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
