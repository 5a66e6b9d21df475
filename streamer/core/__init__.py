"""The streaming core: arrays in, frozen values out. No I/O, no clock, no asyncio, no threads."""
