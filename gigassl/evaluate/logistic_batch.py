"""Batch of logistic regressions on the same rows: gradients, and inverse second derivatives."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_ENTRIES = 1 << 26  # of matrices held at once
_WIDEST = 4096  # rows of one


@dataclass(frozen=True, kw_only=True, eq=False)
class Inverses:
    """Inverse second derivatives that alike problems share.

    Attributes:
        matrices: one a group, of all outputs together or for each of many outputs alike.
        group: of each problem.
        free: 0 for columns that a problem leaves out.
    """

    matrices: tuple[Float[Tensor, "width width"], ...]
    group: Int64[Tensor, " problem"]
    free: Float[Tensor, "problem 1 dim"]

    def some(self, index: Int64[Tensor, " some"]) -> "Inverses":
        """Those of some problems."""
        return replace(self, group=self.group[index], free=self.free[index])

    def renewed(self, index: Int64[Tensor, " some"], new: "Inverses") -> "Inverses":
        """With those of some problems replaced."""
        group = self.group.clone()
        group[index] = new.group + len(self.matrices)
        used, group = torch.unique(group, return_inverse=True)
        every = (*self.matrices, *new.matrices)
        return replace(self, matrices=tuple(every[k] for k in used.tolist()), group=group)

    def applied(
        self, slopes: Float[Tensor, "some variable"], index: Int64[Tensor, " some"]
    ) -> Float[Tensor, "some variable"]:
        """The inverse of each of some problems, times its slopes."""
        parts = slopes.to(self.free.dtype)
        out = torch.empty_like(parts)
        for number, members in _members(self.group[index]):
            matrix = self.matrices[number]
            moved = parts[members].reshape(-1, len(matrix)) @ matrix
            out[members] = moved.reshape(len(members), -1)
        dim = self.free.shape[2]
        free = out.reshape(len(out), -1, dim) * self.free[index]
        return free.reshape(slopes.shape).to(slopes.dtype)


def _members(group: Int64[Tensor, " some"]) -> Iterator[tuple[int, Int64[Tensor, " member"]]]:
    """Each group that occurs, and where."""
    order = group.argsort()
    numbers, counts = torch.unique(group, return_counts=True)
    yield from zip(numbers.tolist(), torch.split(order, counts.tolist()), strict=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Tensors of some problems.

    Attributes:
        rows: with a last column of ones, for the intercept.
        targets: 1 where a row is of the output's class.
        weights: of the rows, times C.
        penalty: of the squares of the coefficients.
        free: 0 for columns that a problem leaves out.
        absent: minus infinity for a class without training rows.
        label: which labelling a problem has.
    """

    rows: Float[Tensor, "row dim"]
    targets: Float[Tensor, "problem output row"]
    weights: Float[Tensor, "problem 1 row"]
    penalty: Float[Tensor, "problem 1 dim"]
    free: Float[Tensor, "problem 1 dim"]
    absent: Float[Tensor, "problem output 1"]
    label: Int64[Tensor, " problem"]

    @property
    def count(self) -> int:
        """Number of problems."""
        return len(self.targets)

    @property
    def outputs(self) -> int:
        """1, or the number of classes."""
        return self.targets.shape[1]

    @property
    def dim(self) -> int:
        """Columns, that of the intercept included."""
        return self.rows.shape[1]

    def some(self, index: Int64[Tensor, " some"]) -> "Batch":
        """Some of the problems."""
        kept = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "rows"}
        return replace(self, **kept)

    def rounded(self) -> "Batch":
        """The same in float32."""
        return replace(
            self,
            **{f.name: getattr(self, f.name).float() for f in fields(self) if f.name != "label"},
        )

    def probabilities(
        self, points: Float[Tensor, "some variable"], index: Int64[Tensor, " some"]
    ) -> Float[Tensor, "some output row"]:
        """Of each row, by coefficients of some of the problems."""
        logits = points.reshape(-1, self.dim) @ self.rows.T
        logits = logits.reshape(len(points), self.outputs, -1)
        if self.outputs == 1:
            return logits.sigmoid_()
        return (logits + self.absent[index]).softmax(dim=1)

    def gradient(
        self, points: Float[Tensor, "some variable"], index: Int64[Tensor, " some"]
    ) -> Float[Tensor, "some variable"]:
        """Of what some of the problems minimise."""
        miss = self.probabilities(points, index).sub_(self.targets[index]).mul_(self.weights[index])
        slope = (miss.reshape(-1, miss.shape[2]) @ self.rows).reshape(-1, self.outputs, self.dim)
        slope += self.penalty[index] * points.reshape(-1, self.outputs, self.dim)
        slope *= self.free[index]
        return slope.reshape(points.shape)

    def inverses(
        self, points: Float[Tensor, "problem variable"] | None = None, *, each: bool = False
    ) -> Inverses:
        """Inverse second derivatives at these points, or at zero for a first step.

        Of problems that are alike, all have that of their mean: of those of one labelling (at zero,
        of all) and, to a factor of two, one C and weight.

        Args:
            points: where.
            each: every problem has its own, if they are not too many to be held.
        """
        at = torch.zeros(self.count, self.outputs * self.dim) if points is None else points
        shares = self.probabilities(at, torch.arange(self.count))
        if each and self.count * (self._blocks * self.dim) ** 2 <= _ENTRIES:
            group = torch.arange(self.count)
        else:
            level = self.weights.sum(dim=(1, 2)).log2().round().long()
            label = self.label if points is not None else torch.zeros_like(level)
            _, group = torch.unique(torch.stack([label, level]), dim=1, return_inverse=True)
        made = []
        for _, members in _members(group):
            curvature = _curvature(shares[members], self.weights[members])
            made.append(self._inverse(curvature, self.penalty[members].mean(dim=(0, 1))))
        return Inverses(matrices=tuple(made), group=group, free=self.free)

    @property
    def _blocks(self) -> int:
        """Outputs whose trade with each other an inverse knows; of very many, none."""
        return self.outputs if self.outputs * self.dim <= _WIDEST else 1

    def _inverse(
        self, curvature: Float[Tensor, "output output row"], penalty: Float[Tensor, " dim"]
    ) -> Float[Tensor, "width width"]:
        outputs, dim = self._blocks, self.dim
        if outputs < self.outputs:
            curvature = curvature.diagonal().mean(dim=1)[None, None]
        size = curvature.abs().sum(dim=(0, 1))
        used = (size > 1e-4 * size.max()).nonzero()[:, 0]
        rows = self.rows[used]
        second = rows.new_empty(outputs, dim, outputs, dim)
        for k in range(outputs):
            for m in range(k + 1):
                second[k, :, m] = (rows * curvature[k, m, used][:, None]).T @ rows
                second[m, :, k] = second[k, :, m]
            second[k, :, k].diagonal().add_(penalty)
            # intercepts have no penalty, and a change of all together changes nothing
            second[k, -1, k, -1] *= 1 + 1e-5
        second = second.reshape(outputs * dim, outputs * dim)
        factor, failed = torch.linalg.cholesky_ex(second)
        if bool(failed):  # so large a C that float32 does not see the penalty
            second.diagonal().add_(1e-5 * second.diagonal().max())
            factor = torch.linalg.cholesky(second)
        return torch.cholesky_inverse(factor)


def _curvature(
    shares: Float[Tensor, "some output row"], weights: Float[Tensor, "some 1 row"]
) -> Float[Tensor, "output output row"]:
    """Second derivatives of the loss in the logits of each row, mean over problems."""
    outputs, count = shares.shape[1], len(shares)
    between = -torch.einsum("pkn,pmn->kmn", shares * weights, shares) / count
    own = (shares * weights).mean(dim=0)
    for k in range(outputs):
        between[k, k] += own[k]
    return between
