"""One module, one subcommand. `embcli.cli` finds them; there is no list to edit."""
