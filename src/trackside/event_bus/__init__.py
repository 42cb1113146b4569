"""The bus: three blinker signals, the sinks attached to them, and the watch over slow sinks."""
