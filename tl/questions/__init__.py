"""Which source, which tasks, how few labels: scores of features, groups of tasks, episodes."""
