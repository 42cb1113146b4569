"""The TensorBoard destination: event files, written without TensorFlow."""
