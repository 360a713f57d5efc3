"""DJP Mesh: models debate a task, a blind jury judges, and the winner is published within budget."""

__version__ = "0.1.0"
