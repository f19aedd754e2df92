"""A head that sorts texts into classes, on top of a BERT or a GPT (004 §2.3, §4.2; 文本分类)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.checks import as_mask, check_kind, check_settings, integer
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.gpt import GPT
from minitransformer.models.layers import checked_ids, drop


class Classifier(nn.Module):
    """softmax(W s + b), where the vector s sums up the text, for two classes or more on a BERT or a GPT.

    A BERT sums it up at [CLS]. A GPT's positions know only what stands before them, so it is the last one's vector.
    """

    def __init__(self, base: Bert | GPT, n_classes: int) -> None:
        super().__init__()
        check_kind(base, Bert | GPT, "A Classifier stands on a Bert or a GPT")
        check_settings({"n_classes": n_classes}, {"n_classes": integer(2)})
        self.base = base
        self.head = nn.Linear(base.config.d_model, n_classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None, **inputs: Any) -> Tensor:
        """Logits over the classes, (B, n_classes), of ids (B, T).

        `attention_mask` (B, T) is False at padding, on either side. `inputs` are what else the base takes, such as
        `prefix`, or a BERT's `types`.
        """
        if isinstance(self.base, Bert):
            summary = self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs))  # (B, C)
        else:
            summary = self.base(
                ids, attention_mask=attention_mask, at=last_token(ids, attention_mask), return_hidden=True, **inputs
            )  # (B, C)
        return self.head(drop(summary, self.base.config.dropout, self.training))  # (B, n_classes)


def check_gives_next(model: object) -> None:
    """Refuse a BERT and a classifier, which give no logits over a next token."""
    if isinstance(model, Bert | Classifier):
        raise UserError(f"A {type(model).__name__} reads and does not write: give a GPT or an encoder–decoder.")


def last_token(ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Where each row's last real token stands, boolean (B, T): one True in each row.

    The attention mask (B, T) decides, False at padding on either side; the padding's id may also be a word.
    """
    B, T = checked_ids(ids).shape
    last = torch.full((B,), T - 1, device=ids.device)  # (B)
    if attention_mask is not None:
        last -= as_mask(attention_mask, (B, T)).flip(1).int().argmax(dim=1)
    return torch.arange(T, device=ids.device) == last[:, None]  # (B, T)
