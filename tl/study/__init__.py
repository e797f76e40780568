"""Studies: a question asked over seeds, dealt out by Optuna, that ends in an answer."""
