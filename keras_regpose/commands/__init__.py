"""The subcommands of `keras-regpose`, one file each.

The file's docstring is the command's help, `EXAMPLE` is shown below it, `add_options` declares its arguments, and `run`
carries it out.
"""
