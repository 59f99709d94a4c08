"""The loss of the objective "neighbours": features of tiles that tell who lies beside whom."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gigassl.vectors.cells import Cells
from gigassl.vectors.neighbours import pairs_at


class NeighbourLoss(nn.Module):
    """Spectral contrastive loss between neighbouring cells: ‖mean(z zᵀ)‖² - 2 mean(z_i · z_j).

    Provable guarantees for self-supervised deep learning with spectral contrastive loss, arXiv
    2106.04156. Its minimum is the leading eigenfunctions of "is a neighbour of": what predicts a
    hidden tile from the tiles around it better than the slide's composition does. As features
    have mean zero in each bag, the eigenfunction that composition could serve is left out.
    """

    def forward(self, values: Float[Tensor, "cell features"], cells: Cells) -> Float[Tensor, ""]:
        """The loss of learned features, of mean zero in each bag, in float32.

        A batch in which no two cells touch only feels the second term.
        """
        with torch.autocast(device_type=values.device.type, enabled=False):
            wide = values.float()
            one, other = pairs_at(cells, lag=1)
            alike = (wide[one] * wide[other]).sum() / max(len(one), 1)
            second_moment = wide.T @ wide / len(wide)
            loss: Tensor = second_moment.square().sum() - 2.0 * alike
        return loss
