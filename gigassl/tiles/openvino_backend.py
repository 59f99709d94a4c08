"""The OpenVINO backend: the fastest way on a CPU; an extra, converted in memory."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.tiles.records import EncoderRecord

if TYPE_CHECKING:
    from gigassl.tiles.engine import EngineSettings


class OpenVinoBackend:
    """A network compiled by OpenVINO for this CPU, with the normalisation inside."""

    def __init__(
        self, network: nn.Module, *, record: EncoderRecord, settings: "EngineSettings"
    ) -> None:
        try:
            import openvino
        except ImportError as error:
            raise SettingsError(
                "the backend openvino is not installed; run `pip install 'gigassl[openvino]'`, "
                "or use --backend torch"
            ) from error
        side = record.input_px
        example = torch.zeros(settings.batch_size, 3, side, side)
        with torch.inference_mode(mode=False):
            exported = torch.export.export(network.cpu(), (example,))
        model = openvino.convert_model(exported)
        model.reshape([settings.batch_size, 3, side, side])
        model = _with_preprocessing(model, record=record)
        self._compiled = openvino.Core().compile_model(model, "CPU", _hints(settings))

    def run(self, tiles: Tensor) -> Tensor:
        """Features [tile, dim] in float32 of uint8 tiles [tile, row, col, channel]."""
        # a copy: the next call writes its result into the same memory
        return torch.from_numpy(self._compiled(tiles.numpy())[0].copy())


def _with_preprocessing(model: Any, *, record: EncoderRecord) -> Any:
    import openvino
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    normalise = steps.input().preprocess().convert_element_type(openvino.Type.f32)
    normalise.mean([value * 255.0 for value in record.mean])
    normalise.scale([value * 255.0 for value in record.std])
    steps.output().tensor().set_element_type(openvino.Type.f32)
    return steps.build()


def _hints(settings: "EngineSettings") -> dict[str, str]:
    hints = {
        "INFERENCE_PRECISION_HINT": "bf16" if settings.precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    if settings.threads is not None:
        hints["INFERENCE_NUM_THREADS"] = str(settings.threads)
    return hints
