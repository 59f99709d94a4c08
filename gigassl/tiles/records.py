"""Facts of a tile encoder, and the table of the public ones."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gigassl.errors import SettingsError

Source = Literal["bundled", "hub", "timm", "random", "file", "none"]
Pooling = Literal["avg", "cls", "cls+mean-patch", "network"]
Precision = Literal["fp32", "bf16"]
Option = str | int | float | bool

MAX_BF16_ERROR = 1e-2
"""bf16 is allowed where it moves features of real tissue by at most this (relative)."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
H_OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
LUNIT = ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464))

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class EncoderRecord:
    """Everything that must be known to feed one tile encoder and to read its features.

    Attributes:
        name: as users and bags call it.
        source: where weights come from ("bundled": inside a package; "random": nowhere; "none": it
            has no weights).
        repo: the hub repository, or the path or seed; empty where the name says it.
        architecture: timm name of the network.
        options: keyword arguments of that network; layer classes by name.
        cut: last stage that is kept ("layer3"), followed by average pooling; empty keeps all.
        pooling: how one vector a tile is made; "network" is whatever the network itself returns.
        dim: length of that vector.
        input_px: side of the square input in px; tiles of another size are resized.
        mpp: µm/px at which tiles should be read.
        mpp_basis: whether the authors print that number, only a magnification, or neither.
        mean, std: normalisation of RGB in 0..1.
        interpolation: how tiles of another size are resized (always antialiased).
        bf16_error: measured relative error of bf16 on real tissue; None where not measured.
        licence: of the weights.
        gated: whether terms must be accepted on the hub before the download.
        url: where the authors describe it.
        verified: False where public sources disagree on a fact of the record.
        pretrained_on: slides that it learned from, as ``slides_record`` makes it; {} where not
            known. It takes no part in digests.
    """

    name: str
    source: Source
    architecture: str
    dim: int
    repo: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    cut: str = ""
    pooling: Pooling = "network"
    input_px: int = 224
    mpp: float = 0.5
    mpp_basis: Literal["stated", "magnification", "convention"] = "convention"
    mean: Triple = IMAGENET[0]
    std: Triple = IMAGENET[1]
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    bf16_error: float | None = None
    licence: str = "unknown"
    gated: bool = False
    url: str = ""
    verified: bool = True
    pretrained_on: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dim < 1 or self.input_px < 1:
            raise SettingsError(
                f"encoder '{self.name}': dim and input_px must be at least 1; "
                f"got {self.dim} and {self.input_px}"
            )
        lengths = [len(values) for values in (self.mean, self.std)]
        if lengths != [3, 3] or not all(map(math.isfinite, (*self.mean, *self.std))):
            raise SettingsError(
                f"encoder '{self.name}': mean and std have a number for each of red, green and "
                f"blue; got {self.mean} and {self.std}"
            )
        if not 0.0 < self.mpp < math.inf or not all(value > 0.0 for value in self.std):
            raise SettingsError(
                f"encoder '{self.name}': mpp and std must be positive; "
                f"got {self.mpp} and {self.std}"
            )

    @property
    def precision(self) -> Precision:
        """The precision that it uses unless told otherwise, where the machine has it."""
        measured_fine = self.bf16_error is not None and self.bf16_error <= MAX_BF16_ERROR
        return "bf16" if measured_fine else "fp32"

    @property
    def access(self) -> str:
        """What a user does to get the weights, as a sentence."""
        offline = "put the files in the cache of the hub and set HF_HUB_OFFLINE=1"
        if self.gated:
            return (
                f"accept the terms ({self.licence}) at {self.url}, then run `hf auth login` or set "
                f"HF_TOKEN; without a network, {offline}"
            )
        return f"check the network and the name; without a network, {offline}"


_SWIGLU: Mapping[str, Option] = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
_UNI: Mapping[str, Option] = {"init_values": 1e-5, "dynamic_img_size": True}
_UNI2: Mapping[str, Option] = {
    "img_size": 224,
    "patch_size": 14,
    "depth": 24,
    "num_heads": 24,
    "init_values": 1e-5,
    "embed_dim": 1536,
    "mlp_ratio": 2.66667 * 2,
    "no_embed_class": True,
    "reg_tokens": 8,
    "dynamic_img_size": True,
    **_SWIGLU,
}
_VIRCHOW: Mapping[str, Option] = {
    "img_size": 224,
    "init_values": 1e-5,
    "mlp_ratio": 5.3375,
    "dynamic_img_size": True,
    **_SWIGLU,
}
_GIGAPATH: Mapping[str, Option] = {
    "img_size": 224,
    "patch_size": 16,
    "embed_dim": 1536,
    "depth": 40,
    "num_heads": 24,
    "init_values": 1e-5,
    "mlp_ratio": 5.33334,
}
_H_OPTIMUS: Mapping[str, Option] = {"img_size": 224, "init_values": 1e-5}
_ND = "CC-BY-NC-ND-4.0"
_KAIKO_URL = "https://github.com/kaiko-ai/towards_large_pathology_fms"
_KAIKO_LICENCE = "kaiko.ai non-commercial licence"
_LUNIT_LICENCE = "Lunit non-commercial licence"
_LUNIT_URL = "https://github.com/lunit-io/benchmark-ssl-pathology"


def _hub(repo: str, architecture: str, dim: int, **facts: object) -> EncoderRecord:
    """A row of the table whose weights lie on the hub; ``facts`` must hold ``name``."""
    defaults: dict[str, object] = {"url": f"https://huggingface.co/{repo}", "pooling": "cls"}
    values = {"repo": repo, "architecture": architecture, "dim": dim, **defaults, **facts}
    return EncoderRecord(source="hub", **values)  # type: ignore[arg-type]


def _normalised(constants: tuple[Triple, Triple]) -> dict[str, object]:
    return {"mean": constants[0], "std": constants[1]}


def _kaiko(letter: str, size: str, *, patch_px: int, dim: int) -> EncoderRecord:
    architecture = f"vit_{size}_patch{patch_px}_224"
    return _hub(
        f"1aurent/{architecture}.kaiko_ai_towards_large_pathology_fms",
        architecture,
        dim,
        name=f"kaiko-vit-{letter}{patch_px}",
        options={"dynamic_img_size": True},
        licence=_KAIKO_LICENCE,
        url=_KAIKO_URL,
        interpolation="bilinear",
        **_normalised(HALF),
    )


def _lunit(key: str, checkpoint: str, *, architecture: str, dim: int) -> EncoderRecord:
    return _hub(
        f"1aurent/{architecture}.{checkpoint}",
        architecture,
        dim,
        name=key,
        pooling="avg" if architecture == "resnet50" else "cls",
        mpp_basis="stated",
        licence=_LUNIT_LICENCE,
        url=_LUNIT_URL,
        interpolation="bilinear",
        **_normalised(LUNIT),
    )


_ROWS = (
    EncoderRecord(
        name="efficientnet-lite0",
        source="bundled",
        architecture="tf_efficientnet_lite0",
        dim=1280,
        pooling="avg",
        # measured on 32 tiles of colon tissue: bf16 moves the features too far
        bf16_error=6.2e-2,
        licence="Apache-2.0",
        url="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
        mean=HALF[0],
        std=HALF[1],
    ),
    # the control of neural image compression: colours, and no shapes
    EncoderRecord(
        name="mean-rgb",
        source="none",
        architecture="nic:mean-rgb",
        dim=3,
        mean=HALF[0],
        std=HALF[1],
        interpolation="bilinear",
        licence="none, as it has no weights",
        url="https://arxiv.org/abs/1811.02840",
    ),
    _hub("MahmoodLab/UNI", "vit_large_patch16_224", 1024, name="uni", options=_UNI,
         interpolation="bilinear", mpp_basis="magnification", licence=_ND, gated=True),
    _hub("MahmoodLab/UNI2-h", "vit_giant_patch14_224", 1536, name="uni2-h", options=_UNI2,
         interpolation="bilinear", licence=_ND, gated=True),
    _hub("paige-ai/Virchow", "vit_huge_patch14_224", 2560, name="virchow",
         options=_VIRCHOW, pooling="cls+mean-patch", mpp_basis="stated",
         licence="Apache-2.0", gated=True),
    _hub("paige-ai/Virchow2", "vit_huge_patch14_224", 2560, name="virchow2",
         options={**_VIRCHOW, "reg_tokens": 4}, pooling="cls+mean-patch", mpp_basis="stated",
         licence=_ND, gated=True),
    # the authors centre-crop 224 px out of 256 px at 0.5 µm/px: the same field as 224 px at 0.5
    _hub("prov-gigapath/prov-gigapath", "vit_giant_patch14_dinov2", 1536, name="prov-gigapath",
         options=_GIGAPATH, mpp_basis="stated",
         licence="Apache-2.0; the card adds: research use only", gated=True),
    _hub("bioptimus/H-optimus-0", "vit_giant_patch14_reg4_dinov2", 1536, name="h-optimus-0",
         options=_H_OPTIMUS, mpp_basis="stated", licence="Apache-2.0", gated=True,
         interpolation="bilinear", **_normalised(H_OPTIMUS)),
    _hub("bioptimus/H-optimus-1", "vit_giant_patch14_reg4_dinov2", 1536, name="h-optimus-1",
         options=_H_OPTIMUS, mpp_basis="stated", licence=_ND, gated=True,
         interpolation="bilinear", **_normalised(H_OPTIMUS)),
    _hub("bioptimus/H0-mini", "vit_base_patch14_reg4_dinov2", 768, name="h0-mini",
         options={**_SWIGLU, "img_size": 224}, verified=False,
         mpp_basis="magnification", licence=_ND, gated=True,
         **_normalised(H_OPTIMUS)),
    _kaiko("s", "small", patch_px=16, dim=384),
    _kaiko("s", "small", patch_px=8, dim=384),
    _kaiko("b", "base", patch_px=16, dim=768),
    _kaiko("b", "base", patch_px=8, dim=768),
    _lunit("lunit-vit-s16", "lunit_dino", architecture="vit_small_patch16_224", dim=384),
    _lunit("lunit-vit-s8", "lunit_dino", architecture="vit_small_patch8_224", dim=384),
    _lunit("lunit-resnet50-bt", "lunit_bt", architecture="resnet50", dim=2048),
    _lunit("lunit-resnet50-mocov2", "lunit_mocov2", architecture="resnet50", dim=2048),
    _lunit("lunit-resnet50-swav", "lunit_swav", architecture="resnet50", dim=2048),
    _hub("1aurent/vit_base_patch16_224.owkin_pancancer", "vit_base_patch16_224", 768, name="phikon",
         interpolation="bilinear", mpp_basis="stated", licence="Owkin non-commercial licence",
         url="https://huggingface.co/owkin/phikon"),
    # pretrained at 20x; its authors recommend 1.0 µm/px downstream
    _hub("1aurent/swin_tiny_patch4_window7_224.CTransPath", "swin_tiny_patch4_window7_224", 768,
         name="ctranspath", pooling="avg", options={"embed_layer": "ConvStem"}, mpp=1.0,
         mpp_basis="stated", licence="GPL-3.0; the authors add: non-commercial academic use",
         interpolation="bilinear", url="https://github.com/Xiyue-Wang/TransPath"),
)  # fmt: skip

ENCODERS: Mapping[str, EncoderRecord] = {record.name: record for record in _ROWS}
"""The encoders that have a name of their own."""

MEASURED_BF16: Mapping[str, float] = {"resnet18": 3.5e-3, "resnet34": 3.6e-3, "resnet50": 5.4e-3}
"""Relative error of bf16 on real tissue by architecture, for encoders outside the table."""
