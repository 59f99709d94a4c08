"""Self-attention within one bag: exact, or by the Nyström method through landmarks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

Heads = Float[Tensor, "head token length"]


class SelfAttention(nn.Module):
    """Multi-head self-attention with a convolution along the values beside it.

    As TransMIL uses it: Nyströmformer (arXiv 2102.03902) with its skip connection of values, a
    depth-wise convolution over 33 tokens. Up to ``exact_tokens`` attention is exact; beyond, it is
    approximated through the means of ``landmarks`` runs of tokens, in memory that grows with the
    number of tokens, not its square.

    Args:
        width: of a token; shared by all heads.
        heads: number of heads.
        landmarks: of the approximation.
        exact_tokens: sequences up to this length are not approximated; 0: all are.
        dropout: on the result.
    """

    def __init__(
        self, *, width: int, heads: int = 8, landmarks: int = 256, exact_tokens: int = 4096,
        dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.landmarks, self.exact_tokens = heads, landmarks, exact_tokens
        self.three = nn.Linear(width, 3 * width, bias=False)
        self.along = AlongTokens(heads)
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))

    def forward(self, tokens: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
        """What each token takes from all."""
        query, key, value = self._heads(tokens)
        if len(tokens) <= self.exact_tokens:
            mixed = nn.functional.scaled_dot_product_attention(query[None], key[None], value[None])
            mixed = mixed[0]
        else:
            mixed = nystrom(query, key, value, landmarks=self.landmarks)
        mixed = mixed + self.along(value)
        out: Tensor = self.out(mixed.transpose(0, 1).flatten(1))
        return out

    def of_first(self, tokens: Float[Tensor, "token width"]) -> Float[Tensor, " token"]:
        """How much the first token takes from each, mean over heads; sums to one where exact."""
        query, key, _ = self._heads(tokens)
        if len(tokens) > self.exact_tokens:
            first, inverse, to_tokens = _factors(query, key, landmarks=self.landmarks)
            taken = first[:, :1] @ inverse @ to_tokens
        else:
            likeness = query[:, :1].float() @ key.float().transpose(1, 2)
            taken = (likeness * query.shape[2] ** -0.5).softmax(dim=2)
        return taken.mean(dim=0)[0]

    def _heads(self, tokens: Float[Tensor, "token width"]) -> tuple[Heads, Heads, Heads]:
        three = self.three(tokens).reshape(len(tokens), 3, self.heads, -1)
        query, key, value = three.permute(1, 2, 0, 3)
        return query, key, value


class AlongTokens(nn.Module):
    """A convolution over neighbouring tokens, one kernel a head."""

    def __init__(self, heads: int, *, size: int = 33) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads, 1, size, 1))

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the kernels as PyTorch draws those of a convolution."""
        bound = self.weight.shape[2] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)

    def forward(self, value: Heads) -> Heads:
        """Each value with its neighbours' share."""
        size = self.weight.shape[2]
        along: Tensor = nn.functional.conv2d(
            value[None], self.weight, padding=(size // 2, 0), groups=len(self.weight)
        )
        return along[0]


def nystrom(query: Heads, key: Heads, value: Heads, *, landmarks: int) -> Heads:
    """Attention of every token to every token, through the means of runs of tokens.

    arXiv 2102.03902: softmax(Q K̃ᵀ) · pinv(softmax(Q̃ K̃ᵀ)) · softmax(Q̃ Kᵀ) V. With
    as many landmarks as tokens it is attention itself. Runs differ by one token at most in length,
    where the published code fills up with tokens of zeros, which then take part.

    Args:
        landmarks: number of runs; at most one a token.
    """
    to_landmarks, inverse, to_tokens = _factors(query, key, landmarks=landmarks)
    return to_landmarks @ (inverse @ (to_tokens @ value.float()))


def _factors(
    query: Heads, key: Heads, *, landmarks: int
) -> tuple[
    Float[Tensor, "head token landmark"],
    Float[Tensor, "head landmark landmark"],
    Float[Tensor, "head landmark token"],
]:
    """The three matrices whose product stands for the attention of every token to every token."""
    n_tokens = query.shape[1]
    query, key = query.float(), key.float()
    run = torch.arange(n_tokens, device=query.device) * min(landmarks, n_tokens) // n_tokens
    query = query * query.shape[2] ** -0.5
    few_queries, few_keys = (_mean_of_runs(tokens, run) for tokens in (query, key))
    to_landmarks = (query @ few_keys.transpose(1, 2)).softmax(dim=2)
    among = (few_queries @ few_keys.transpose(1, 2)).softmax(dim=2)
    to_tokens = (few_queries @ key.transpose(1, 2)).softmax(dim=2)
    return to_landmarks, pseudo_inverse(among), to_tokens


def _mean_of_runs(tokens: Heads, run: Tensor) -> Float[Tensor, "head landmark length"]:
    count = torch.bincount(run)
    total = tokens.new_zeros(len(tokens), len(count), tokens.shape[2])
    return total.index_add(1, run, tokens) / count[:, None]


def pseudo_inverse(
    matrix: Float[Tensor, "head landmark landmark"], *, steps: int = 6
) -> Float[Tensor, "head landmark landmark"]:
    """Moore–Penrose inverse by the iteration of arXiv 2102.03902, each head by itself."""
    absolute = matrix.abs()
    most = absolute.sum(dim=1).amax(dim=1) * absolute.sum(dim=2).amax(dim=1)
    inverse = matrix.transpose(1, 2) / most[:, None, None]
    one = torch.eye(matrix.shape[1], device=matrix.device)
    for _ in range(steps):
        product = matrix @ inverse
        inner = 15 * one - product @ (7 * one - product)
        inverse = 0.25 * inverse @ (13 * one - product @ inner)
    return inverse
