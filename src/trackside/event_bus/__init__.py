"""The bus: three blinker signals, the sinks attached to them, and what watches over both."""
