"""Where slides are encoded: in this process, or on a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager

from gigassl.bags.prepare import TileSettings
from gigassl.pipeline.jobs import EncodingJob, RunOptions, SlideJob
from gigassl.pipeline.ray_cluster import connected
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.engine import TileEncoder


@contextmanager
def encoding_job(
    encoder: TileEncoder | str, *, tiles: TileSettings, options: RunOptions
) -> Iterator[EncodingJob]:
    """The job that encodes slides by the engine of ``options``; a cluster is let go of at the end.

    Raises:
        SettingsError: unknown encoder, no Ray, no such cluster or no room on it.
        MachineError: the cluster's processes die while they start.
    """
    if options.engine is None:
        yield SlideJob(encoder=load_encoder(encoder), tiles=tiles, options=options)
        return
    with connected(options.engine):
        from gigassl.pipeline.ray_job import ray_job

        # nodes decide the device; this process only sends the weights
        loaded = load_encoder(encoder, device="cpu")
        with ray_job(options.engine, encoder=loaded, tiles=tiles, options=options) as job:
            yield job
