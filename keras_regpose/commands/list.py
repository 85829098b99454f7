"""Show the zoo as a table."""

EXAMPLE = "keras-regpose list --markdown"


def add_options(sub):
    sub.add_argument("--markdown", action="store_true", help="as a Markdown table")


def run(options):
    from keras_regpose.zoo import preset_table

    print(preset_table(markdown=options.markdown))
