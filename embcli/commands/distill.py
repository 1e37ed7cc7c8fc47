"""`embcli distill`."""

from pathlib import Path
from typing import Annotated

import typer

from embcli.options import COMMON, MODEL, Device, Quiet, TrustRemoteCode, complete_model
from embcli.output import Output, size

PANEL = "Work"
ORDER = 18
EXAMPLE = "embcli distill static -o small --dims 64"


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="A transformer or a static model: a name that 'embcli models' lists, a "
            "directory, or an id on the Hugging Face hub.",
            autocompletion=complete_model,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="The new model, a directory that is not there yet; -m DIR uses it.",
            rich_help_panel=COMMON,
        ),
    ],
    dims: Annotated[
        int, typer.Option(min=0, help="How many principal components to keep; 0: no PCA.")
    ] = 256,
    sif: Annotated[
        float,
        typer.Option(
            min=0,
            help="How little frequent tokens count: a in a/(a+p); 0: all count the same.",
        ),
    ] = 1e-4,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of a model on the hub.", rich_help_panel=MODEL),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Make a static model out of a transformer: fast, small, without torch.

    Every token of the vocabulary goes through the model alone. Their vectors are turned onto
    their principal axes and weighted by how frequent the tokens are; the vector of a text is the
    mean of those of its tokens. The files are as model2vec has them, which reads them too.
    """  # fmt: skip
    from embcli.encoders import EncoderOptions
    from embcli.pipelines.distill import distill

    output = Output(None, None, quiet)
    options = EncoderOptions(device=device, revision=revision, trust_remote_code=trust_remote_code)
    with output.progress("tokens") as advance:
        report = distill(
            model,
            out,
            dims=dims or None,
            sif=sif or None,
            options=options,
            note=output.note,
            advance=advance,
        )
    output.summary(
        f"{report.tokens:,} tokens, {report.dim} dimensions, {size(report.bytes)} → {out}"
    )
