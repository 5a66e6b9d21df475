"""Streams into the tools that people already use: VMC, Live Link Face, iFacialMocap."""
