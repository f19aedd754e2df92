"""What all tuning methods share: going onto a frozen base and off again, counting, saving, loading (001 §2).

    method = PrefixTuning(length=10).attach(base)     # the base is frozen, and runs with the prefix from here on
    train(base, batches, config)                      # trains what the method brought, and nothing else
    method.save("prefix.safetensors")                 # the tuned part alone
    method.detach()                                   # the base is what it was, bit for bit

A method never changes the base's code. It hooks into its modules, so that the base need not know that it is tuned, and
so that what was hooked in can be taken out without a trace.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from minitransformer.checkpoint import check_names, load_weights
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT
from minitransformer.models.seq2seq import Seq2Seq
from minitransformer.tuning.bases import Base, base_of, base_parameters, fingerprint
from minitransformer.tuning.saved import Saved
from minitransformer.tuning.settings import checked, settings_of


class Report(NamedTuple):
    """How many parameters a method trains, and how many of them are kept."""

    method: str
    trained: int  # parameters that training changes, without a classifier's head
    stored: int  # parameters that `save` writes, without a classifier's head
    head: int  # parameters of the classifier's head, which every method trains alike
    base: int  # parameters of the base

    @property
    def trained_fraction(self) -> float:
        """Of the base's parameters."""
        return self.trained / self.base

    @property
    def stored_fraction(self) -> float:
        """Of the base's parameters."""
        return self.stored / self.base

    def __str__(self) -> str:
        """One line for a person."""
        head = f", and a head of {self.head:,}" if self.head else ""
        return (
            f"{self.method}: trains {self.trained:,} parameters ({self.trained_fraction:.2%} of the base's "
            f"{self.base:,}) and keeps {self.stored:,} ({self.stored_fraction:.2%}){head}."
        )


class Attached(nn.ModuleList):
    """The methods on a base, in the order in which they came; it sits in the base as `base.tuning`."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        self.trainable_before = {name for name, p in base.named_parameters() if p.requires_grad}

    def __deepcopy__(self, memo: dict) -> NoReturn:
        """Refuse: the hooks of the copy would be those of the original."""
        raise UserError(self.hooks_stay())

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be pickled, as by torch.save(base), for hooks are code."""
        raise UserError(self.hooks_stay())

    def hooks_stay(self) -> str:
        """The sentence for whoever copies or pickles what is attached."""
        names = ", ".join(type(method).__name__ for method in self)
        return (
            f"A {names} is on this base, and hooks can be neither copied nor pickled: a copy's would still run the "
            "original's parameters. detach() first and attach() again afterwards; or save() it, and load() it onto a "
            "copy of the bare base."
        )


class Method(nn.Module):
    """One way to tune a base: a class in a file of its own in this folder.

    A new method says what it brings (`build`) and where it goes (`install`); all else is here. By being there it can be
    saved and loaded by its name, and the tests of what every method promises run on each of its `examples`. The first
    line of its docstring is what is said about it. Each setting of its constructor is declared as a `Setting`.
    """

    place: ClassVar[str]  # what of the base it occupies; two methods cannot share a place
    goes_onto: ClassVar[tuple[type[nn.Module], ...]] = (GPT, Bert, Seq2Seq)
    reads_virtual_ids: ClassVar[bool] = False  # whether the text has to hold `virtual_ids(method.length)`
    starts_as_base: bool = True  # whether the base says, before anything is learned, what it says without the method
    examples: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # short name → settings that fit the smallest base
    when_loaded: ClassVar[Mapping[str, object]] = {}  # settings that say how to begin, where a file has the tensors
    renamed: ClassVar[Mapping[str, str]] = {}  # how tensors' names began in older files → how they begin now
    kinds: ClassVar[dict[str, type[Method]]] = {}  # every method by its class's name, for `load`

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make a saved file find its class by name; another class of that name, made later, does not take its place."""
        super().__init_subclass__(**kwargs)
        Method.kinds.setdefault(cls.__name__, cls)

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.settings = checked(type(self), settings)
        self.fingerprint: str | None = None  # of the base that it was built for
        self._handles: list[RemovableHandle] = []
        # In lists, for a module in an attribute would become a child.
        self._base: list[Base] = []
        self._head: list[nn.Linear] = []

    # ------------------------------------------------------------------- for subclasses

    def build(self, base: Base) -> None:
        """Make the parameters, which depend on the base's sizes; refuse settings that do not fit this base."""
        raise NotImplementedError

    def install(self, base: Base) -> Iterable[RemovableHandle]:
        """Hook into the base; gives the handles whose `remove()` takes the hooks out."""
        raise NotImplementedError

    def uninstall(self, base: Base) -> None:
        """Undo what `install` did to the base, beside the hooks."""

    def stored(self) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
        """What a user of the tuned model needs: settings for the constructor, and tensors for `restore`."""
        return self.settings, self.tensors()

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes, by name, without the head."""
        return self.state_dict()

    def restore(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Put tensors back that `tensors` gave, in the precision that they have; refuses others."""
        load_weights(self, tensors, source)
        precisions = {t.dtype for t in tensors.values()}
        if len(precisions) == 1 and (precision := precisions.pop()) != next(iter(self.state_dict().values())).dtype:
            self.to(precision)
            load_weights(self, tensors, source)

    # ------------------------------------------------------------------- for everyone

    @property
    def base(self) -> Base | None:
        """The base that it is on, or None."""
        return self._base[0] if self._base else None

    @property
    def head(self) -> nn.Linear | None:
        """The head of the classifier that it is on, or None."""
        return self._head[0] if self._head else None

    @property
    def merged(self) -> bool:
        """Whether its effect stands in the base's weights now; only that of a `Mergeable` can."""
        return False

    def attach(self, model: Base | Classifier) -> Method:
        """Go onto a base, or onto the base of a classifier, whose head is then trained and saved along.

        The base is frozen. At the first time the method's parameters are made (`torch.manual_seed` decides which);
        later it may go onto any base with the same weights. Refuses a base of a kind that it does not go onto or other
        than it was made for, and to be on two at once, or where another method has its place.
        """
        name, base = type(self).__name__, base_of(model)
        if self.base is not None:
            raise UserError(f"This {name} is on a base already: detach() it first, or make a second one.")
        if not isinstance(base, self.goes_onto):
            kinds = " or a ".join(kind.__name__ for kind in self.goes_onto)
            raise UserError(f"This {name} goes onto a {kinds}, not onto a {type(base).__name__}.")
        check_place(self, base)
        own = fingerprint(base)
        if self.fingerprint not in (None, own):
            raise UserError(
                f"This {name} was made for a base with the fingerprint {self.fingerprint}; this {type(base).__name__} "
                f"has {own}. Its parameters mean nothing to other weights: load the base that it was trained on."
            )
        like = next(base.parameters())
        if self.fingerprint is None:
            with torch.no_grad():
                self.build(base)
            self.to(like)  # its device and precision
        self.to(like.device)
        self.fingerprint = own
        if not hasattr(base, "tuning"):
            base.tuning = Attached(base)
            base.__dict__["__reduce_ex__"] = on_base(base).__reduce_ex__  # asked first by copy and pickle: both refuse
            base.requires_grad_(False)
            base.zero_grad()  # a gradient left over from before would count when gradients are clipped
        self.train(base.training)  # a base that does not drop out gets no method that does
        self._base.append(base)
        if isinstance(model, Classifier):
            self._head.append(model.head.to(like))
        on_base(base).append(self)
        self.requires_grad_(True)
        try:
            self._handles = list(self.install(base))
        except BaseException:
            self.detach()
            raise
        return self

    def detach(self) -> None:
        """Leave the base, which is bit for bit what it was before."""
        base = self.base
        if base is None:
            raise UserError(f"This {type(self).__name__} is on no base.")
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.uninstall(base)
        self._base.clear()
        self._head.clear()
        on = on_base(base)
        del on[list(on).index(self)]
        if not len(on):
            trainable_before = on.trainable_before
            del base.tuning, base.__dict__["__reduce_ex__"]
            for name, p in base.named_parameters():
                p.requires_grad_(name in trainable_before)

    def trainable(self) -> list[nn.Parameter]:
        """What training changes, without the head."""
        return list(self.parameters())

    def report(self) -> Report:
        """How many parameters are trained and kept, beside the base's.

        Raises `UserError` for a method that is on no base.

        Returns:
            A Report: the name of the method's class; how many parameters `trainable` lists; how many numbers the
            tensors of `stored` have; how many parameters the classifier's head has, 0 without one; and how many the
            base has of its own, without what methods brought.
        """
        base = self._need_base("report")
        return Report(
            type(self).__name__,
            trained=sum(p.numel() for p in self.trainable()),
            stored=sum(t.numel() for t in self.stored()[1].values()),
            head=sum(p.numel() for p in self.head.parameters()) if self.head else 0,
            base=sum(p.numel() for p in base_parameters(base).values()),
        )

    def save(self, path: str | Path, resume: bool = False, made_by: str | None = None) -> None:
        """Write the tuned part alone, with the base's fingerprint and the position convention.

        Args:
            path: a .safetensors file.
            resume: keep what only training needs too (a reparametrisation, say), so that it can go on.
            made_by: the command that makes the file together with its base; whoever loads it onto another base is told.
        """
        base = self._need_base("save")
        settings, tensors = (self.settings, self.tensors()) if resume else self.stored()
        Saved(
            tuning=type(self).__name__,
            settings=dict(settings),
            made_with=self.settings,
            base=type(base).__name__,
            base_config=asdict(base.config),
            fingerprint=str(self.fingerprint),
            tensors=tensors,
            head=self.head.state_dict() if self.head else {},
            made_by=made_by,
        ).write(path)

    @classmethod
    def summary(cls) -> str:
        """What the method does, in a line: the first of its docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]

    def __getstate__(self) -> Any:
        """What a copy or a pickle of it holds: on no base, everything. On a base it refuses: hooks cannot be copied."""
        if self.base is not None:
            raise UserError(on_base(self.base).hooks_stay())
        return super().__getstate__()

    def _need_base(self, what: str) -> Base:
        if self.base is None:
            raise UserError(f"This {type(self).__name__} is on no base: attach() it first, then {what}().")
        return self.base


def on_base(base: Base) -> Attached:
    """What is attached to a base, as far as something is."""
    return cast(Attached, base.tuning)


def methods() -> dict[str, type[Method]]:
    """Every method, by its class's name; a class without `examples`, such as a base class, is none."""
    return {name: kind for name, kind in sorted(Method.kinds.items()) if kind.examples}


def load(path: str | Path, model: Base | Classifier) -> Method:
    """Read what `save` wrote and attach it.

    Refuses a file that is damaged or holds no tuned part, one for another base or another position convention, and one
    with a classifier's head for a model without, or the reverse.
    """
    saved = Saved.read(path)
    kind = Method.kinds.get(saved.tuning)
    if kind is None:
        raise UserError(
            f"{path} was tuned by a {saved.tuning}, a method that is not known here; known are "
            f"{', '.join(methods())}. Import the module that defines it, then load."
        )
    check_names(saved.settings, settings_of(kind), settings_of(kind), kind.__name__, path)
    begin = {name: value for name, value in kind.when_loaded.items() if name in saved.settings}
    try:
        method = kind(**{**saved.settings, **begin})
        settings = checked(kind, saved.settings)
    except UserError as error:
        raise UserError(f"{path} has a setting that means nothing. {error}") from error
    base = base_of(model)
    check_place(method, base)
    saved.check_base(base, path)
    if bool(saved.head) != isinstance(model, Classifier):
        raise UserError(
            f"{path} {'holds a' if saved.head else 'has no'} classifier's head: load it onto a "
            f"{'Classifier' if saved.head else type(base).__name__}."
        )
    tensors = dict(saved.tensors)
    for old, new in kind.renamed.items():
        tensors = {new + name.removeprefix(old) if name.startswith(old) else name: t for name, t in tensors.items()}
    method.attach(model)
    try:
        method.restore(tensors, str(path))
        if method.head is not None:
            load_weights(method.head, saved.head, str(path))
    except BaseException:
        method.detach()
        raise
    method.settings = settings
    return method


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


def attached_to(model: Base | Classifier) -> list[Method]:
    """The methods that are on this base now."""
    return list(getattr(base_of(model), "tuning", ()))


def check_place(new: Method, base: Base) -> None:
    """Refuse two methods that want the same place, or one beside a method that changes the base itself."""
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
