"""The inference engine: a tile encoder turns tiles (bytes) into features, on any backend."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from gigassl.digests import digest_of_tensors, plain
from gigassl.errors import SettingsError, SlideError, unknown_name
from gigassl.files import MachineError
from gigassl.tiles.augmentation import Augmentation, augmented
from gigassl.tiles.networks import folded
from gigassl.tiles.records import MAX_BF16_ERROR, EncoderRecord, Precision
from gigassl.tiles.turns import turned

BACKENDS = ("torch", "openvino")
DEFAULT_BATCH_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How an encoder runs.

    Attributes:
        backend: "torch", or "openvino" (CPU only, an extra).
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        precision: None uses what the record allows and the machine has.
        batch_size: tiles that run together; fewer are padded to it, so no call differs in size.
        compiled: let torch compile the network (slow start, faster tiles).
        threads: of the OpenVINO backend; None leaves the choice to it.
    """

    backend: str = "torch"
    device: str = field(default="auto", metadata={"digest": False})
    precision: str | None = None
    batch_size: int = DEFAULT_BATCH_SIZE
    compiled: bool = False
    threads: int | None = field(default=None, metadata={"digest": False})

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise unknown_name("backend", self.backend, known=BACKENDS)
        if self.precision not in (None, "fp32", "bf16"):
            raise unknown_name("precision", self.precision, known=("fp32", "bf16"))
        if self.batch_size < 1:
            raise SettingsError(f"batch size must be at least 1; got {self.batch_size}")
        if self.threads is not None and self.threads < 1:
            raise SettingsError(f"threads must be at least 1; got {self.threads}")


@runtime_checkable
class Backend(Protocol):
    """Runs a network on whole batches of the right size."""

    def run(self, tiles: Tensor) -> Tensor:
        """Features [tile, dim] in float32 of uint8 tiles [tile, row, col, channel]."""
        ...


class EncoderFacts:
    """What is known of a tile encoder, wherever it runs.

    Attributes:
        record: facts of the encoder.
        settings: how it runs; backend, device and precision are decided, never "auto" or None.
        digest: SHA-256 of the weights (16 hex digits).
    """

    def __init__(self, *, record: EncoderRecord, settings: EngineSettings, digest: str) -> None:
        self.record, self.settings, self.digest = record, settings, digest

    @property
    def dim(self) -> int:
        """Length of the feature vector of a tile."""
        return self.record.dim

    @property
    def batch_size(self) -> int:
        """Most tiles that go through the network at once."""
        return self.settings.batch_size

    @property
    def precision(self) -> Precision:
        """Arithmetic of the network: "fp32" or "bf16"."""
        return "bf16" if self.settings.precision == "bf16" else "fp32"

    @property
    def backend(self) -> str:
        """Library that runs the network: "torch" or "openvino"."""
        return self.settings.backend

    @property
    def device(self) -> str:
        """Where it runs: "cpu", "cuda", "cuda:1"."""
        return self.settings.device

    def identity(self) -> dict[str, Any]:
        """What the features depend on, as plain values for settings digests and provenance."""
        facts = plain(self.record)
        kept = ("name", "architecture", "cut", "pooling", "dim", "input_px", "mean", "std",
                "interpolation")  # fmt: skip
        settings: dict[str, Any] = plain(self.settings)
        return {key: facts[key] for key in kept} | {"weights": self.digest} | settings


class TileEncoder(EncoderFacts):
    """A frozen network with its own preprocessing, resolution, width and digest.

    Attributes:
        network: what runs, as it was given.
        asked: how it was asked to run, for another machine, which may decide otherwise.
        weight_bytes: of the weights and buffers, as loaded.
    """

    def __init__(self, network: nn.Module, *, record: EncoderRecord, settings: EngineSettings):
        self.network = network.eval().requires_grad_(requires_grad=False)
        self.asked = settings
        weights = network.state_dict()
        super().__init__(
            record=record,
            settings=_decided(settings, record),
            digest=digest_of_tensors(weights),
        )
        self.weight_bytes = sum(tensor.nbytes for tensor in weights.values())
        self._backend = _start(self.network, record=record, settings=self.settings)

    def encode(
        self,
        tiles: UInt8[np.ndarray, "tile row col 3"],
        *,
        augmentation: Augmentation | None = None,
        variant: int = 0,
    ) -> Float32[np.ndarray, "tile dim"]:
        """Features of 1 to ``batch_size`` RGB tiles, which may be of any size in px.

        The batch is padded to ``batch_size``, so what a tile gets depends neither on how many
        others come with it nor on what they show.

        Args:
            tiles: square where they are augmented or turned.
            augmentation: applied to all tiles first, on the device; its crop is resized straight
                to the side that the network takes.
            variant: all tiles are turned and mirrored first, as ``gigassl.tiles.turns`` numbers it.

        Raises:
            ValueError: no tiles, or more than ``batch_size``.
            SlideError: a feature is not a finite number.
            MachineError: the device has too little memory for the batch size.
        """
        n_tiles = len(tiles)
        if not 1 <= n_tiles <= self.batch_size:
            raise ValueError(f"expected 1 to {self.batch_size} tiles; got {n_tiles}")
        try:
            with torch.inference_mode():
                batch = _padded(tiles, n_tiles=self.batch_size).to(self._tensor_device)
                # the network wants bytes that lie as those of a tile that was not turned
                batch = turned(batch, variant, dims=(1, 2)).contiguous()
                if augmentation is not None:
                    batch = augmented(batch, augmentation, side_px=self.record.input_px)
                features = self._backend.run(_resized(batch, self.record))
                found = features[:n_tiles].float().cpu().numpy()
        except torch.cuda.OutOfMemoryError as error:
            raise self._out_of_memory() from error
        if not np.isfinite(found).all():
            bad = int((~np.isfinite(found).all(axis=1)).sum())
            raise SlideError(
                f"encoder '{self.record.name}' gave features that are not finite numbers for "
                f"{bad} of {n_tiles} tiles; try --precision fp32, and check the encoder's weights",
                stage="encode",
            )
        return found

    @property
    def _tensor_device(self) -> str:
        return self.settings.device if self.settings.backend == "torch" else "cpu"

    def _out_of_memory(self) -> MachineError:
        advice = (
            f"try --batch-size {self.batch_size // 2}"
            if self.batch_size > 1
            else "use --device cpu"
        )
        return MachineError(
            f"the device {self.device} has too little memory for encoder '{self.record.name}' with "
            f"{self.batch_size} tiles at once; {advice}"
        )


def _decided(settings: EngineSettings, record: EncoderRecord) -> EngineSettings:
    device = settings.device
    if device == "auto":
        cuda = settings.backend == "torch" and torch.cuda.is_available()
        device = "cuda" if cuda else "cpu"
    _check_device(device, settings.backend)
    return EngineSettings(
        backend=settings.backend,
        device=device,
        precision=_decided_precision(settings.precision, record=record, device=device),
        batch_size=settings.batch_size,
        compiled=settings.compiled,
        threads=settings.threads,
    )


def _check_device(device: str, backend: str) -> None:
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda"):
        raise unknown_name("device", device, known=("auto", "cpu", "cuda"))
    if backend == "openvino" and kind != "cpu":
        raise SettingsError(f"the backend openvino runs on cpu; got device '{device}'")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"no device '{device}': PyTorch sees {torch.cuda.device_count()} CUDA devices; "
            "use --device cpu, or install a CUDA build of PyTorch"
        )


def _decided_precision(wish: str | None, *, record: EncoderRecord, device: str) -> Precision:
    if wish == "bf16" and record.bf16_error is not None and record.bf16_error > MAX_BF16_ERROR:
        raise SettingsError(
            f"encoder '{record.name}' does not allow bf16: it moves features of real tissue by "
            f"{record.bf16_error:.1%}, more than {MAX_BF16_ERROR:.0%}; use --precision fp32"
        )
    if wish is not None:
        return "bf16" if wish == "bf16" else "fp32"
    return record.precision if has_fast_bf16(device) else "fp32"


def has_fast_bf16(device: str) -> bool:
    """Whether bf16 arithmetic is in the hardware (AVX512-BF16 or AMX; CUDA from Ampere on)."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16", False) or has.get("amx_bf16", False))


def cuda_devices() -> list[str]:
    """Names of the CUDA devices, in the order of their numbers."""
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _start(network: nn.Module, *, record: EncoderRecord, settings: EngineSettings) -> Backend:
    if settings.backend == "openvino":
        from gigassl.tiles.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(network, record=record, settings=settings)
    return TorchBackend(network, record=record, settings=settings)


class TorchBackend:
    """PyTorch: channels last, batch norms folded, bf16 by autocast where the precision says so."""

    def __init__(self, network: nn.Module, *, record: EncoderRecord, settings: EngineSettings):
        network = folded(network, input_px=record.input_px).to(settings.device)
        network = network.to(memory_format=torch.channels_last)
        self._network = torch.compile(network) if settings.compiled else network
        self._kind = settings.device.partition(":")[0]
        self._bf16 = settings.precision == "bf16"
        self._mean, self._std = (
            torch.tensor(values, device=settings.device).view(1, 3, 1, 1) * 255.0
            for values in (record.mean, record.std)
        )

    def run(self, tiles: Tensor) -> Tensor:
        """Features [tile, dim] in float32 of uint8 tiles [tile, row, col, channel]."""
        # seen as [tile, channel, row, col], the bytes already lie channels last
        images = tiles.permute(0, 3, 1, 2).float().sub_(self._mean).div_(self._std)
        with torch.autocast(self._kind, dtype=torch.bfloat16, enabled=self._bf16):
            features: Tensor = self._network(images)
        return features.float()


def _padded(tiles: UInt8[np.ndarray, "tile row col 3"], *, n_tiles: int) -> Tensor:
    if len(tiles) == n_tiles:
        # PyTorch takes neither negative strides nor, without a warning, read-only memory
        fit = tiles.flags.c_contiguous and tiles.flags.writeable
        return torch.from_numpy(tiles if fit else tiles.copy())
    batch = torch.zeros((n_tiles, *tiles.shape[1:]), dtype=torch.uint8)
    batch.numpy()[: len(tiles)] = tiles
    return batch


def _resized(tiles: Tensor, record: EncoderRecord) -> Tensor:
    if tuple(tiles.shape[1:3]) == (record.input_px, record.input_px):
        return tiles
    images = nn.functional.interpolate(
        tiles.permute(0, 3, 1, 2).float(),
        size=(record.input_px, record.input_px),
        mode=record.interpolation,
        align_corners=False,
        antialias=True,
    )
    return images.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).contiguous()
