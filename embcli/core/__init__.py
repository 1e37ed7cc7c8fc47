"""Pure numerics on arrays: no I/O, no printing, no Typer."""
