"""The command line: one command a stage; each parses, calls one public function, prints."""

import logging
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gigassl.cli.result import EXIT_INTERRUPTED
from gigassl.errors import GigasslError

EXIT_MISTAKE = 2


class SentenceGroup(TyperGroup):
    """Turns our errors into one sentence and exit code 2; the traceback needs ``--debug``."""

    def invoke(self, ctx: Any) -> Any:  # noqa: D102 # the class says it
        try:
            return super().invoke(ctx)
        except GigasslError as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"gigassl: {error}", err=True)
            raise typer.Exit(EXIT_MISTAKE) from error
        except KeyboardInterrupt:
            typer.echo("gigassl: interrupted; what was done is kept", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    cls=SentenceGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Gigapixel histology slides into one compact vector each, without labels.",
    epilog="First look: gigassl demo. Your slides: gigassl embed SLIDES -o vectors.parquet",
)


def _show_version(wanted: bool | None) -> None:
    if wanted:
        from gigassl.versions import installed_version

        typer.echo(f"gigassl {installed_version('gigassl')}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = None,
) -> None:
    """Sets up logging to the error stream; results go to the standard output."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("gigassl").setLevel(logging.WARNING if quiet else logging.INFO)


def run() -> None:
    """Entry point of the ``gigassl`` program."""
    # decode threads beside a multi-threaded encoder: without this, OpenMP threads that wait for
    # work spin and take the cores from the readers; it must be set before torch loads
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


def _register() -> None:
    """Adds the commands in the order in which a user meets them."""
    from gigassl.cli import (
        compare,
        demo,
        embed,
        encode,
        explain,
        fewshot,
        fit,
        import_model,
        import_vectors,
        inductive,
        look,
        merge,
        mil,
        pretrain,
        pretrain_tiles,
        probe,
        probe_tiles,
        report,
        run,
        screen,
        search,
        sites,
        synth,
        verify,
    )

    panels = {
        "First look": (
            ("demo", demo.demo_command, demo.EXAMPLE),
            ("doctor", look.doctor_command, look.DOCTOR_EXAMPLE),
            ("inspect", look.inspect_command, look.INSPECT_EXAMPLE),
        ),
        "Vectors": (
            ("embed", embed.embed_command, embed.EXAMPLE),
            ("encode", encode.encode_command, encode.EXAMPLE),
            ("pretrain-tiles", pretrain_tiles.pretrain_tiles_command, pretrain_tiles.EXAMPLE),
            ("pretrain", pretrain.pretrain_command, pretrain.EXAMPLE),
            ("import-model", import_model.import_model_command, import_model.EXAMPLE),
            ("import-vectors", import_vectors.import_vectors_command, import_vectors.EXAMPLE),
            ("merge", merge.merge_command, merge.EXAMPLE),
            ("verify", verify.verify_command, verify.EXAMPLE),
        ),
        "What they are worth": (
            ("probe", probe.probe_command, probe.EXAMPLE),
            ("probe-tiles", probe_tiles.probe_tiles_command, probe_tiles.EXAMPLE),
            ("mil", mil.mil_command, mil.EXAMPLE),
            ("fewshot", fewshot.fewshot_command, fewshot.EXAMPLE),
            ("inductive", inductive.inductive_command, inductive.EXAMPLE),
            ("compare", compare.compare_command, compare.EXAMPLE),
            ("sites", sites.sites_command, sites.EXAMPLE),
            ("report", report.report_command, report.EXAMPLE),
        ),
        "Their use": (
            ("fit", fit.fit_command, fit.FIT_EXAMPLE),
            ("predict", fit.predict_command, fit.PREDICT_EXAMPLE),
            ("screen", screen.screen_command, screen.EXAMPLE),
            ("explain", explain.explain_command, explain.EXAMPLE),
            ("search", search.search_command, search.EXAMPLE),
        ),
    }
    for panel, commands in panels.items():
        for name, command, example in commands:
            app.command(name=name, epilog=example, rich_help_panel=panel)(command)
    app.command(name="run", epilog=run.EXAMPLE, rich_help_panel="First look")(run.run_command)
    app.add_typer(synth.synth_app, name="synth", rich_help_panel="First look")


_register()
