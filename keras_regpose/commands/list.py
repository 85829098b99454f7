"""`keras-regpose list`."""


def add(command):
    """Adds the command to the parser."""
    sub = command("list", run, "Show the zoo as a table.", "keras-regpose list --markdown")
    sub.add_argument("--markdown", action="store_true", help="as a Markdown table")


def run(options):
    from keras_regpose.zoo import preset_table

    print(preset_table(markdown=options.markdown))
