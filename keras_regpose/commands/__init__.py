"""The subcommands of `keras-regpose`, one file each: `add` declares its arguments, `run` carries it out."""
