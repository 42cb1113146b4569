"""The sinks of the training process, each watched by what would really read it."""
