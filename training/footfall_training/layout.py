"""How events of several users lie in one tensor, and causal attention that never crosses users."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Layout(Protocol):
    """Moves token tensors into [batch, length, ...] for attention and back; `position` is each token's place."""

    position: Tensor

    def pad(self, tokens: Tensor) -> Tensor: ...

    def unpad(self, padded: Tensor) -> Tensor: ...


class Packed:
    """Tokens [events, width] of histories bounded by `offsets` int64 [users + 1]."""

    def __init__(self, offsets: Tensor) -> None:
        lengths = offsets.diff()
        self._shape = (len(lengths), int(lengths.max()) if len(lengths) else 0)
        user = torch.repeat_interleave(torch.arange(len(lengths), device=offsets.device), lengths)
        self.position = torch.arange(int(offsets[-1]), device=offsets.device) - offsets[:-1][user]
        self._slot = user * self._shape[1] + self.position

    def pad(self, tokens: Tensor) -> Tensor:
        padded = tokens.new_zeros(self._shape[0] * self._shape[1], tokens.shape[-1])
        return padded.index_copy(0, self._slot, tokens).view(*self._shape, -1)

    def unpad(self, padded: Tensor) -> Tensor:
        return padded.flatten(0, 1).index_select(0, self._slot)


class Padded:
    """Tokens [batch, length, width], filled from the left."""

    def __init__(self, length: int, device: torch.device) -> None:
        self.position = torch.arange(length, device=device)

    def pad(self, tokens: Tensor) -> Tensor:
        return tokens

    def unpad(self, padded: Tensor) -> Tensor:
        return padded


def causal_attention(query_key_value: Tensor, num_heads: int, dropout: float = 0.0) -> Tensor:
    """Softmax attention to oneself and the past: [batch, length, 3 * width] -> [batch, length, width].

    Padding stands behind every real token, so the causal mask already hides it.
    """
    batch, length, _ = query_key_value.shape
    heads = query_key_value.view(batch, length, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = heads.unbind(0)  # [batch, head, length, head_width] each
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout)
    return mixed.transpose(1, 2).reshape(batch, length, -1)
