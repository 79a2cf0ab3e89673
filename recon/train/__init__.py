"""Training shared by all tasks: state and step, optimiser, checkpoints, logs, and the loop."""
