"""Why weights of the hub cannot be had, as a sentence that says how to get them."""

from dataclasses import replace

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from gigassl.errors import SettingsError
from gigassl.tiles.records import EncoderRecord

HUB_ERRORS = (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    ConnectionError,
    FileNotFoundError,
)
"""What a download raises."""


def no_weights(record: EncoderRecord, error: Exception) -> SettingsError:
    """The error for weights that cannot be had."""
    what = f"the weights of encoder '{record.name}' cannot be had"
    if isinstance(error, GatedRepoError):
        return SettingsError(f"{what}: {replace(record, gated=True).access}")
    if isinstance(error, RepositoryNotFoundError):
        return SettingsError(f"{what}: no such repository; {record.access}")
    return SettingsError(f"{what}: {record.access} ({type(error).__name__})")
