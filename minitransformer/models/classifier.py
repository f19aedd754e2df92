"""A head that sorts texts into classes, on top of a BERT or a GPT (001 §3.1, 004 §4.2; 文本分类)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.gpt import GPT
from minitransformer.models.layers import drop


class Classifier(nn.Module):
    """softmax(W s + b), where the vector s sums up the text.

    A BERT sums it up at [CLS]. A GPT's positions know only what stands before them, so it is the last one's vector.

    Args:
        base: the model below.
        n_classes: how many classes.

    Raises:
        UserError: fewer than two classes.
    """

    def __init__(self, base: Bert | GPT, n_classes: int) -> None:
        super().__init__()
        if n_classes < 2:
            raise UserError(f"n_classes = {n_classes}: there have to be at least two classes to choose from.")
        self.base = base
        self.head = nn.Linear(base.config.d_model, n_classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None, **inputs: object) -> Tensor:
        """Logits over the classes.

        Args:
            ids: token ids (B, T).
            attention_mask: boolean (B, T), False at padding, on either side; None if there is none.
            inputs: what else the base takes, such as `prefix`, or a BERT's `types`.

        Returns:
            (B, n_classes)

        A BERT's vectors base(ids, attention_mask=…) are (B, T, C), and base.pooled(vectors) makes the summary (B, C) of
        them. A GPT gives logits; with return_hidden=True it gives vectors, and with at=…, boolean (B, T), only those of
        the places marked. Between summary and head stands drop(summary, base.config.dropout, self.training).
        """
        if isinstance(self.base, Bert):
            summary = self.base.pooled(self.base(ids, attention_mask=attention_mask, **inputs))  # (B, C)
        else:
            summary = self.base(
                ids, attention_mask=attention_mask, at=last_token(ids, attention_mask), return_hidden=True, **inputs
            )  # (B, C)
        return self.head(drop(summary, self.base.config.dropout, self.training))  # (B, n_classes)


def last_token(ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Where each row's last real token stands, boolean (B, T): one True in each row.

    ids are the tokens (B, T), attention_mask is a boolean (B, T), False at padding, which may stand on either side;
    None if there is none. What the ids are does not matter: the padding's id may also be a word.
    """
    B, T = ids.shape
    last = torch.full((B,), T - 1, device=ids.device)  # (B)
    if attention_mask is not None:
        last -= attention_mask.flip(1).int().argmax(dim=1)
    return torch.arange(T, device=ids.device) == last[:, None]  # (B, T)
