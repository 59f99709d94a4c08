"""How a run uses a Ray cluster; nothing here needs Ray, and nothing decides a result."""

from dataclasses import dataclass

from gigassl.errors import SettingsError, unknown_name

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class RayEngine:
    """Slides are encoded by actors of a Ray cluster, and decoded by tasks beside them.

    Attributes:
        address: of the cluster: "auto" (the one of RAY_ADDRESS, or running on this machine),
            "HOST:PORT", "ray://HOST:PORT", or "local" for one that begins and ends with the run.
        actors: encoder actors; None: as many as the cluster has room for, also when it grows.
        gpus_per_actor: share of a GPU that an actor holds; None: one where the cluster has GPUs.
        cpus_per_actor: CPUs that an actor holds; None: one beside a GPU, else all but one.
        decoders: slides that are decoded at a time for one actor, a CPU each where there is one;
            None: as many as the CPUs of the cluster allow.
        retries: how often a slide is tried again that was lost with its process or node.
        device: "auto" (CUDA on actors that hold a GPU), "cpu" or "cuda".
        patience_s: how long the run waits for room on the cluster before it gives up.
    """

    address: str = "auto"
    actors: int | None = None
    gpus_per_actor: float | None = None
    cpus_per_actor: float | None = None
    decoders: int | None = None
    retries: int = 3
    device: str = "auto"
    patience_s: float = 600.0

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise unknown_name("device of Ray actors", self.device, known=DEVICES)
        for name in ("actors", "cpus_per_actor", "decoders"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise SettingsError(f"{_option(name)} must be more than 0; got {value}")
        gpus = self.gpus_per_actor
        if gpus is not None and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
            raise SettingsError(
                f"--gpus-per-actor is 0, a fraction up to 1, or a whole number; got {gpus:g}"
            )
        if self.retries < 0:
            raise SettingsError(f"--retries must be 0 or more; got {self.retries}")


def _option(name: str) -> str:
    """The option of the command line that sets a field.

    >>> _option("cpus_per_actor")
    '--cpus-per-actor'
    """
    return f"--{name.replace('_', '-')}"
