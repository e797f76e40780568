"""A trained network that answers: with its classes, sizes, normalisation and tokenizer."""
