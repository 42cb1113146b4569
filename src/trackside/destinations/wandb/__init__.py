"""The Weights & Biases destination."""
