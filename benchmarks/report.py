"""One line a number, so that benchmark output can be read, diffed and grepped."""


def line(name: str, value: float, *, unit: str) -> None:
    """Prints a name, its value to four digits, and what it is measured in."""
    print(f"{name:64} {value:>10.4g} {unit}", flush=True)
