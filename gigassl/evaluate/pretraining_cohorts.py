"""What published encoders were pretrained on, as far as their authors' own pages say it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """The pretraining cohort of a published encoder.

    Attributes:
        said: the cohort as its authors name it.
        url: where they say it.
        tcga: whether slides of TCGA are in it.
    """

    said: str
    url: str
    tcga: bool


_LUNIT = Published(
    said="19 million patches of TCGA",
    url="https://github.com/lunit-io/benchmark-ssl-pathology",
    tcga=True,
)
_KAIKO = Published(
    said="open-access TCGA slides", url="https://arxiv.org/abs/2404.15217", tcga=True
)

PUBLISHED: Mapping[str, Published] = {
    "efficientnet-lite0": Published(
        said="ImageNet, which holds no slides",
        url="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
        tcga=False,
    ),
    "phikon": Published(
        said="40 million tiles of TCGA", url="https://huggingface.co/owkin/phikon", tcga=True
    ),
    "phikon-v2": Published(
        said="TCGA, CPTAC, GTEx and others", url="https://huggingface.co/owkin/phikon-v2", tcga=True
    ),
    "ctranspath": Published(
        said="all slides of TCGA and PAIP",
        url="https://github.com/Xiyue-Wang/TransPath",
        tcga=True,
    ),
    "lunit": _LUNIT,
    "kaiko": _KAIKO,
    "giga-ssl": Published(
        said="the diagnostic slides of TCGA", url="https://arxiv.org/abs/2212.03273", tcga=True
    ),
    "nic-bigan": Published(
        said="patches of 60 slides of Camelyon16, 40 of TUPAC16, which are of TCGA, and 74 of "
        "rectum",
        url="https://arxiv.org/abs/1811.02840",
        tcga=True,
    ),
    "uni": Published(
        said="Mass-100K (MGH, BWH, GTEx), without TCGA, CPTAC, PAIP, CAMELYON and PANDA",
        url="https://huggingface.co/MahmoodLab/UNI",
        tcga=False,
    ),
    "uni2-h": Published(
        said="slides of Mass General Brigham",
        url="https://huggingface.co/MahmoodLab/UNI2-h",
        tcga=False,
    ),
    "h-optimus-0": Published(
        said="a proprietary collection of slides",
        url="https://huggingface.co/bioptimus/H-optimus-0",
        tcga=False,
    ),
}
"""Name of an encoder, or of a family of them, → cohort. Whose authors' page was not found, or does
not say it, is not here: "not known" is an answer too."""

_FAMILIES = ("lunit", "kaiko")


def published(encoder: str) -> Published | None:
    """What a published encoder was pretrained on; None where it is not known.

    >>> published("kaiko-vit-b8").said
    'open-access TCGA slides'
    """
    name = encoder.lower()
    family = next((each for each in _FAMILIES if name.startswith(f"{each}-")), name)
    return PUBLISHED.get(family)


def is_tcga(slide_id: str) -> bool:
    """Whether a slide's name is a barcode of TCGA.

    >>> is_tcga("TCGA-CR-7395-01Z-00-DX1.2E6C26F6")
    True
    """
    return slide_id.upper().startswith("TCGA-")
