"""The command line, `keras-recnet`: one module per command."""
