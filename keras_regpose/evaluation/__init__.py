"""How well poses fit the truth: predictions for annotated people, and the metrics of the field."""
